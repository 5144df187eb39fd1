"""Metrics, linear probes, tables and plots of the recipes; imports no toolkit."""
