#!/usr/bin/env python3
"""aiokafka: runs the named checks against a broker."""

import client_main
from aiokafka_broker import Broker

if __name__ == "__main__":
    client_main.run("aiokafka", __doc__, Broker)
