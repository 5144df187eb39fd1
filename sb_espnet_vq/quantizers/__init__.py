"""The quantizer families, one a file. `sb_espnet_vq.build` makes them by name."""
