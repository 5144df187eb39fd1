"""Speech recognition by CTC: its input, its network, and the units of its output."""
