"""Kernels for maps on a CPU."""
