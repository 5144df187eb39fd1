"""Each quantizer as a class with the interface of ESPnet's codec quantizer.

For code that builds a codec's quantizer itself; the codecs `vq_soundstream` and others
take any quantizer by name. Under the launcher each component
is also available as ``espnet2.gan_codec.NAME``.
"""

from inspect import Signature
from typing import ClassVar

from sb_espnet_vq.gan_codec.quantizers import CodecQuantizer
from sb_espnet_vq.registry import options_of_class

__all__ = [
    "BSQComponent",
    "ClassPartitionedComponent",
    "EntropyVQComponent",
    "FSQComponent",
    "GroupedComponent",
    "GumbelComponent",
    "LFQComponent",
    "RVQComponent",
    "RandomProjectionComponent",
    "ResidualComponent",
    "SimVQComponent",
    "SplitComponent",
    "VQComponent",
    "WarmStartComponent",
]


class _Component(CodecQuantizer):
    """`CodecQuantizer` whose quantizer is chosen by the class.

    Arguments and errors are those of `CodecQuantizer`, without ``quantizer``.
    """

    __signature__: ClassVar[Signature]
    name: ClassVar[str]

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        options = options_of_class(CodecQuantizer).values()
        own = [option for option in options if option.name != "quantizer"]
        cls.__signature__ = Signature(own)

    def __init__(self, *args, **options):
        given = self.__signature__.bind(*args, **options).arguments
        super().__init__(**given, quantizer=self.name)


class BSQComponent(_Component):
    """Binary spherical quantization as a codec's quantizer.

    Example
    -------
    >>> import torch
    >>> quantizer = BSQComponent(dimension=16, bins=256)
    >>> quantizer(torch.randn(2, 16, 100), sample_rate=50).bandwidth
    tensor(0.4000)
    """

    name = "bsq"


class ClassPartitionedComponent(_Component):
    """A partitioned codebook as a codec's quantizer: no labels, all codes available."""

    name = "class_partitioned"


class EntropyVQComponent(_Component):
    """A codebook with an entropy term for uniform usage as a codec's quantizer."""

    name = "entropy_vq"


class FSQComponent(_Component):
    """Channels rounded to a few levels as a codec's quantizer."""

    name = "fsq"


class GroupedComponent(_Component):
    """A quantizer for each group of channels as a codec's quantizer."""

    name = "grouped"


class GumbelComponent(_Component):
    """Gumbel-softmax product quantization as a codec's quantizer."""

    name = "gumbel"


class LFQComponent(_Component):
    """Signs with an entropy term as a codec's quantizer."""

    name = "lfq"


class RandomProjectionComponent(_Component):
    """Frozen random projections and codebooks as a codec's quantizer."""

    name = "random_projection"


class RVQComponent(_Component):
    """Residual vector quantization, with the state-dict keys of ESPnet's class."""

    name = "rvq"


class ResidualComponent(_Component):
    """A residual chain of any quantizer as a codec's quantizer."""

    name = "residual"


class SimVQComponent(_Component):
    """A learned map of fixed random vectors as a codec's quantizer."""

    name = "simvq"


class SplitComponent(_Component):
    """The first codebook apart from the rest as a codec's quantizer."""

    name = "split"


class VQComponent(_Component):
    """One EMA codebook as a codec's quantizer."""

    name = "vq"


class WarmStartComponent(_Component):
    """Continuous frames first, quantized ones later, as a codec's quantizer."""

    name = "warm_start"
