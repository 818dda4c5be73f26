#!/usr/bin/env python3
"""confluent-kafka for Python (librdkafka): runs the named checks against a broker."""

import api_versions
import confluent_admin
import confluent_data
import group_checks
from checks import arguments, run_all
from confluent_broker import delete_own_topics
from confluent_groups import GroupBroker


def main():
    group_checks.run_member(GroupBroker)
    options = arguments(__doc__)
    broker = GroupBroker(options.bootstrap, options.prefix)
    served = api_versions.api_versions(options.bootstrap)
    functions = {
        **confluent_data.checks(broker, served),
        **confluent_admin.checks(broker),
        **group_checks.checks(broker),
    }
    run_all("confluent", options.checks, functions)
    delete_own_topics(broker)


if __name__ == "__main__":
    main()
