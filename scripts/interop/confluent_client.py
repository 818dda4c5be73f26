#!/usr/bin/env python3
"""confluent-kafka for Python (librdkafka): runs the named checks against a broker."""

import api_versions
import confluent_admin
import confluent_data
from checks import arguments, run_all
from confluent_broker import Broker, delete_own_topics


def main():
    options = arguments(__doc__)
    broker = Broker(options.bootstrap, options.prefix)
    served = api_versions.api_versions(options.bootstrap)
    functions = {**confluent_data.checks(broker, served), **confluent_admin.checks(broker)}
    run_all("confluent", options.checks, functions)
    delete_own_topics(broker)


if __name__ == "__main__":
    main()
