"""Metrics that compare audio with its reconstruction, one utterance at a time."""
