#!/usr/bin/env python3
"""kafka-python: runs the named checks against a broker."""

import client_main
from kafka_python_broker import Broker

if __name__ == "__main__":
    client_main.run("kafka-python", __doc__, Broker)
