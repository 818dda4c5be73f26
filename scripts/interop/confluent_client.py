#!/usr/bin/env python3
"""confluent-kafka for Python (librdkafka): runs the named checks against a broker."""

import client_main
from confluent_groups import GroupBroker

if __name__ == "__main__":
    client_main.run("confluent", __doc__, GroupBroker)
