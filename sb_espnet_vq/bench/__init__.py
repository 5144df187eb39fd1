"""Benchmarks of our quantizers and other implementations: `sbvq bench`."""
