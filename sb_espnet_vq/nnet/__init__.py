"""Drop-in modules under the paths of `speechbrain.nnet`."""
