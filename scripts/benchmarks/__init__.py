"""The parts of scripts/benchmark.py, one per file."""
