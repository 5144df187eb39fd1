"""Shared code of the SpeechBrain recipes: startup, data, training loop, results."""
