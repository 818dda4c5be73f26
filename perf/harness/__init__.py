"""Drives the yardsticks of `highwater-floor` and the broker against each other."""
