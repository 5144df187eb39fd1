"""Helpers that every part may use: files, locks, seeds, import hooks, batches."""
