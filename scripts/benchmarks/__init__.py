"""The parts of scripts/benchmark.py, one a file."""
