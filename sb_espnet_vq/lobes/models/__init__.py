"""Drop-in modules under the paths of `speechbrain.lobes.models`."""
