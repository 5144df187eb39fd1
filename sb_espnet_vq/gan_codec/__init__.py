"""Drop-in modules under the paths of `espnet2.gan_codec`."""
