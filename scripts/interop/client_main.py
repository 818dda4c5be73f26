"""The program of a Python client: all checks with its view of the broker."""

import admin_checks
import api_versions
import data_checks
import group_checks
from checks import arguments, delete_own_topics, run_all


def run(client, description, connect):
    """`connect(bootstrap, prefix)` gives the client's broker."""
    group_checks.run_member(connect)
    options = arguments(description)
    broker = connect(options.bootstrap, options.prefix)
    served = api_versions.api_versions(options.bootstrap)
    functions = {
        **data_checks.checks(broker, served),
        **admin_checks.checks(broker),
        **group_checks.checks(broker),
    }
    run_all(client, options.checks, functions)
    delete_own_topics(broker)
