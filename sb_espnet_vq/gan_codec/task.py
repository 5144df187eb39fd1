"""ESPnet's codec task with the codecs of this package among its choices."""

from espnet2.tasks.gan_codec import GANCodecTask

__all__ = ["VQGANCodecTask"]


class VQGANCodecTask(GANCodecTask):
    """GAN codec training with ``codec: vq_soundstream`` and the like.

    For code that names a task class, where no launcher helps: espnetez, ESPnet3's
    ``task:`` key, a script of one's own. Workers that ESPnet spawns import this
    package to unpickle the class, so they know the codecs too.
    """
