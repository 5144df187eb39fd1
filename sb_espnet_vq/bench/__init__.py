"""Measures our quantizers beside those of others, on the same inputs: `sbvq bench`."""
