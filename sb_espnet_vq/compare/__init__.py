"""Quantizers compared: a grid of codecs, trained and evaluated, in one table."""
