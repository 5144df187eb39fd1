"""ESPnet's codec task with the codecs of this package among its choices."""

from espnet2.tasks.gan_codec import GANCodecTask

__all__ = ["VQGANCodecTask"]


class VQGANCodecTask(GANCodecTask):
    """GAN codec training with ``codec: vq_soundstream`` and the like.

    For code that takes a task class and runs without the launcher: espnetez, ESPnet3's
    ``task:`` key, custom scripts. Spawned workers of ESPnet import this package when
    they unpickle the class, so the codecs are registered there too.
    """
