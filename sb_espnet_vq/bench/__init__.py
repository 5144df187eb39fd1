"""Benchmarks that compare our quantizers with other implementations: `sbvq bench`."""
