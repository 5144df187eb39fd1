"""Each family as a quantizer component of its own, with ESPnet's interface.

For code of your own that builds a codec's quantizer; the codecs `vq_soundstream`,
`vq_encodec` and `vq_dac` take any family by name. Under the launcher each is
``espnet2.gan_codec.NAME`` too.
"""

import inspect
from typing import ClassVar

from sb_espnet_vq.gan_codec.quantizers import CodecQuantizer

__all__ = [
    "BSQComponent",
    "ClassPartitionedComponent",
    "EntropyVQComponent",
    "GumbelComponent",
    "RVQComponent",
    "RandomProjectionComponent",
    "VQComponent",
]


class _Component(CodecQuantizer):
    """`CodecQuantizer` whose family is chosen by the class.

    Arguments and errors are those of `CodecQuantizer`, without ``quantizer``.
    """

    family: ClassVar[str]

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        options = inspect.signature(CodecQuantizer).parameters.values()
        own = [option for option in options if option.name != "quantizer"]
        cls.__signature__ = inspect.Signature(own)  # type: ignore[attr-defined]

    def __init__(self, *args, **options):
        given = inspect.signature(type(self)).bind(*args, **options).arguments
        super().__init__(**given, quantizer=self.family)


class BSQComponent(_Component):
    """Binary spherical quantization as a codec's quantizer.

    Example
    -------
    >>> import torch
    >>> quantizer = BSQComponent(dimension=16, bins=256)
    >>> quantizer(torch.randn(2, 16, 100), sample_rate=50).bandwidth
    tensor(0.4000)
    """

    family = "bsq"


class ClassPartitionedComponent(_Component):
    """Keys shared out among classes as a codec's quantizer (all keys are searched)."""

    family = "class_partitioned"


class EntropyVQComponent(_Component):
    """A codebook kept in even use by an entropy term as a codec's quantizer."""

    family = "entropy_vq"


class GumbelComponent(_Component):
    """Gumbel-softmax codes in groups as a codec's quantizer."""

    family = "gumbel"


class RandomProjectionComponent(_Component):
    """A frozen random projection and codebook as a codec's quantizer."""

    family = "random_projection"


class RVQComponent(_Component):
    """Residual vector quantization; its state has the keys of ESPnet's own class."""

    family = "rvq"


class VQComponent(_Component):
    """One codebook of moving averages as a codec's quantizer."""

    family = "vq"
