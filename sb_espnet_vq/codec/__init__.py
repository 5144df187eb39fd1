"""A neural codec in plain torch: model, networks, discriminator, losses."""
