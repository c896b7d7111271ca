"""Benchmarks for the machine at hand. Each compares its methods within one run, so that ratios hold."""
