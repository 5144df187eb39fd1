"""Changes that `import sb_espnet_vq.gan_codec` makes to ESPnet's modules."""

import functools
from types import ModuleType

from sb_espnet_vq.gan_codec.needs import record_needs
from sb_espnet_vq.gan_codec.quantizers import state_errors
from sb_espnet_vq.gan_codec.streams import StreamsOfQuantizer


def extend_task(task: ModuleType) -> None:
    """Register the codecs, and make runs record what they require.

    Arguments
    ---------
    task : module
        ``espnet2.tasks.gan_codec``.
    """
    if not hasattr(task, "GANCodecTask") or hasattr(task, "_sb_espnet_vq"):
        # Still being imported (the launcher calls again later), or already done.
        return
    from espnet2.gan_codec.shared.quantizer import residual_vq

    from sb_espnet_vq.gan_codec.codecs import CODECS

    task.codec_choices.classes.update(CODECS)
    record_needs(task.GANCodecTask, residual_vq, CODECS)
    task._sb_espnet_vq = True  # type: ignore[attr-defined]


def ask_quantizers(codecs: ModuleType) -> None:
    """Make ESPnet's codecs report the codebook sizes of quantizers of this package.

    Arguments
    ---------
    codecs : module
        ``espnet2.gan_codec.abs_gan_codec``.
    """
    for name in ("num_streams", "code_size_per_stream"):
        setattr(codecs.AbsGANCodec, name, getattr(StreamsOfQuantizer, name))


def guard_quantizer(quantizers: ModuleType) -> None:
    """Make ESPnet's quantizer raise an error for the state of another quantizer.

    Arguments
    ---------
    quantizers : module
        ``espnet2.gan_codec.shared.quantizer.residual_vq``.
    """
    stock = quantizers.ResidualVectorQuantizer
    load = stock._load_from_state_dict

    @functools.wraps(load)
    def _load_from_state_dict(self, state_dict, prefix, *rest):
        load(self, state_dict, prefix, *rest)
        errors = rest[-1]
        errors += state_errors(self, state_dict, prefix, type(self).__name__)

    stock._load_from_state_dict = _load_from_state_dict
