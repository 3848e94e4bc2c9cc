"""Benchmarks: side by side against peers and limits; never part of the test suite."""
