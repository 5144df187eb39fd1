"""Any quantizer in any place of a pipeline: an adapter for each role.

Each keeps the constructor and the calls of the SpeechBrain class whose place it
takes, and takes a registered quantizer by name.
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
