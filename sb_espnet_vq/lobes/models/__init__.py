"""Stand-ins for modules of `speechbrain.lobes.models`, under the same names."""
