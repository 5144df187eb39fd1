"""Helpers for all other packages: files, locks, seeds, import hooks, batches."""
