"""ESPnet's codec task with the codecs of this package among its choices."""

from espnet2.tasks.gan_codec import GANCodecTask, codec_choices

from sb_espnet_vq.gan_codec.codecs import CODECS

__all__ = ["VQGANCodecTask"]

# A plain dictionary of ESPnet's. Workers that ESPnet spawns import this module to
# unpickle the class, so they know the codecs too.
codec_choices.classes.update(CODECS)


class VQGANCodecTask(GANCodecTask):
    """GAN codec training with ``codec: vq_soundstream`` and the like.

    For code that names a task class, where no launcher helps: espnetez, ESPnet3's
    ``task:`` key, a script of one's own.
    """
