"""Drop-in for `speechbrain.lobes.models.PIQ`.

Posthoc Interpretation via Quantization, Paissan et al. 2023,
https://arxiv.org/abs/2303.12659. The frozen representation of a sound classifier is
quantized with a dictionary (codebook) that is partitioned among classes, and decoded
to a spectrogram of the parts that are relevant for the classifier.

To use it in a recipe, replace ``speechbrain`` by ``sb_espnet_vq`` in the class path:
constructors, return values and checkpoint keys are the same. docs/deviations.md lists
where results differ, and why.
"""

from sb_espnet_vq.lobes.models.piq_dictionary import (
    VectorQuantization,
    VectorQuantizationStraightThrough,
    VQEmbedding,
    get_irrelevant_regions,
)
from sb_espnet_vq.lobes.models.piq_networks import (
    Conv2dEncoder_v2,
    ResBlockAudio,
    VectorQuantizedPSI_Audio,
    VectorQuantizedPSIFocalNet_Audio,
    VectorQuantizedPSIViT_Audio,
    weights_init,
)

__all__ = [
    "Conv2dEncoder_v2",
    "ResBlockAudio",
    "VQEmbedding",
    "VectorQuantization",
    "VectorQuantizationStraightThrough",
    "VectorQuantizedPSIFocalNet_Audio",
    "VectorQuantizedPSIViT_Audio",
    "VectorQuantizedPSI_Audio",
    "get_irrelevant_regions",
    "weights_init",
]
