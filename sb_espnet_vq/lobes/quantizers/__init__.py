"""Adapters that put any quantizer into a SpeechBrain recipe, one for each use.

Each has the constructor and methods of the SpeechBrain class that it replaces, and
takes a registered quantizer by name.
"""

from sb_espnet_vq.lobes.quantizers.bottleneck import BottleneckQuantizer
from sb_espnet_vq.lobes.quantizers.contrastive import ContrastiveQuantizer
from sb_espnet_vq.lobes.quantizers.dictionary import DictionaryQuantizer
from sb_espnet_vq.lobes.quantizers.target import TargetQuantizer

__all__ = [
    "BottleneckQuantizer",
    "ContrastiveQuantizer",
    "DictionaryQuantizer",
    "TargetQuantizer",
]
