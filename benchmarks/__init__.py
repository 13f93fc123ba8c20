"""Measure what the project promises about its speed: `python -m benchmarks`."""
