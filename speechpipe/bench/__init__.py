"""Measurements that an operator makes on the machine at hand. Everything is measured in one run, so ratios hold."""
