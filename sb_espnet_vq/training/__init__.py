"""What the SpeechBrain recipes share: their start, their data, their training loop."""
