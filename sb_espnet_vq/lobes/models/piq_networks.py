"""The convolutional networks of PIQ: encoder, residual block and decoders.

Paissan et al. 2023, "Posthoc Interpretation via Quantization",
https://arxiv.org/abs/2303.12659.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sb_espnet_vq.errors import ShapeError
from sb_espnet_vq.lobes.models.piq_dictionary import VQEmbedding
from sb_espnet_vq.lobes.quantizers.dictionary import DictionaryQuantizer

_Size = int | tuple[int, int]

# Kernel size and stride of each transposed convolution; the padding is 1.
_EVEN_LAYERS: list[tuple[_Size, _Size]] = [(3, 2), (4, 2), (4, 2), (4, 2), (12, 1)]
# Representations of a FocalNet or ViT are coarser, mostly in frequency.
_STEEP_LAYERS: list[tuple[_Size, _Size]] = [
    (3, (4, 5)),
    ((4, 1), 2),
    ((4, 1), 2),
    ((4, 2), 2),
    ((10, 8), 1),
]


def weights_init(m: nn.Module) -> None:
    """Initialize a convolution: Xavier weights and a zero bias.

    For ``module.apply(weights_init)``. A module counts as a convolution if its class
    name contains "Conv" and it has a weight; all others are unchanged.

    Arguments
    ---------
    m : torch.nn.Module
        Changed in place.

    Example
    -------
    >>> conv = nn.Conv2d(1, 2, 3)
    >>> weights_init(conv)
    >>> conv.bias.tolist()
    [0.0, 0.0]
    """
    weight = getattr(m, "weight", None)
    if "Conv" not in type(m).__name__ or not isinstance(weight, Tensor):
        return
    nn.init.xavier_uniform_(weight)
    bias = getattr(m, "bias", None)
    if isinstance(bias, Tensor):
        nn.init.zeros_(bias)


class ResBlockAudio(nn.Module):
    """Residual block of two convolutions.

    Arguments
    ---------
    dim : int
        Channels of input and output.

    Example
    -------
    >>> import torch
    >>> ResBlockAudio(8)(torch.randn(2, 8, 16, 16)).shape
    torch.Size([2, 8, 16, 16])
    """

    def __init__(self, dim: int):
        super().__init__()
        self.block = nn.Sequential(
            nn.Conv2d(dim, dim, kernel_size=3, padding=1),
            nn.BatchNorm2d(dim),
            nn.ReLU(inplace=True),
            nn.Conv2d(dim, dim, kernel_size=1),
            nn.BatchNorm2d(dim),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x`` plus the output of the two convolutions.

        Arguments
        ---------
        x : torch.Tensor
            (B, dim, H, W).

        Returns
        -------
        torch.Tensor
            (B, dim, H, W).
        """
        return self.block(x) + x


class Conv2dEncoder_v2(nn.Module):
    """Convolutional encoder of log spectrograms, with stride 16 in both axes.

    Arguments
    ---------
    dim : int
        Channels of the feature maps.

    Example
    -------
    >>> import torch
    >>> Conv2dEncoder_v2(dim=4)(torch.ones(3, 431, 513)).shape
    torch.Size([3, 4, 26, 32])
    """

    def __init__(self, dim: int = 256):
        super().__init__()
        self.conv1, self.bn1 = _halving(1, dim)
        self.conv2, self.bn2 = _halving(dim, dim)
        self.conv3, self.bn3 = _halving(dim, dim)
        self.conv4, self.bn4 = _halving(dim, dim)
        self.resblock = ResBlockAudio(dim)

    def forward(self, x: Tensor) -> Tensor:
        """Encode a batch.

        Arguments
        ---------
        x : torch.Tensor
            (B, T, F) log-power spectrograms, at least 16 by 16.

        Returns
        -------
        torch.Tensor
            (B, dim, T // 16, F // 16).

        Raises
        ------
        ShapeError
            If a spectrogram is too small or there are not three axes.
        """
        if not torch.jit.is_scripting():
            _check_spectrograms(x)
        x = self.bn1(self.conv1(x[:, None])).relu_()
        x = self.bn2(self.conv2(x)).relu_()
        x = self.bn3(self.conv3(x)).relu_()
        x = self.bn4(self.conv4(x)).relu_()
        return self.resblock(x)


def _halving(channels: int, dim: int) -> tuple[nn.Conv2d, nn.BatchNorm2d]:
    conv = nn.Conv2d(channels, dim, kernel_size=4, stride=2, padding=1)
    return conv, nn.BatchNorm2d(dim)


def _check_spectrograms(x: Tensor) -> None:
    if x.dim() != 3 or min(x.shape[1:]) < 16:
        raise ShapeError(
            "Conv2dEncoder_v2 takes spectrograms (B, T, F) of at least 16 frames "
            f"and 16 bands, got {tuple(x.shape)}"
        )


class VectorQuantizedPSI_Audio(nn.Module):
    """Decodes a classifier's representation to a spectrogram, given the class.

    The representation passes through an adapter, is quantized with the codebook vectors
    of the class, and is decoded.

    Arguments
    ---------
    dim : int
        Channels of the representation, and width of the codebook vectors.
    K : int
        Number of codebook vectors.
    numclasses : int
        Number of classes.
    activate_class_partitioning : bool
        False makes all codebook vectors available to all classes.
    shared_keys : int
        Number of codebook vectors that belong to no class; not available in training.
    use_adapter : bool
        Whether to learn an adapter between representation and dictionary.
    adapter_reduce_dim : bool
        Whether the adapter also halves both axes before the dictionary and doubles
        them after it. Ignored without an adapter: the dictionary then gets the
        representation unchanged.
    quantizer : str
        A registered name. The default returns upstream's values; `DictionaryQuantizer`
        builds the others.
    quantizer_conf : dict, optional
        Options of the quantizer.

    Raises
    ------
    ConfigError
        If a class would have no codebook vector, or the name or an option is unknown.

    Example
    -------
    >>> import torch
    >>> psi = VectorQuantizedPSI_Audio(dim=4, K=50)
    >>> spectrogram, hcat, z_q = psi(torch.randn(2, 4, 16, 16), torch.tensor([0, 2]))
    >>> spectrogram.shape, hcat.shape, z_q.shape
    (torch.Size([2, 1, 257, 257]), torch.Size([2, 4, 8, 8]), torch.Size([2, 4, 8, 8]))
    """

    def __init__(
        self,
        dim: int = 128,
        K: int = 512,
        numclasses: int = 50,
        activate_class_partitioning: bool = True,
        shared_keys: int = 0,
        use_adapter: bool = True,
        adapter_reduce_dim: bool = True,
        *,
        quantizer: str = "class_partitioned",
        quantizer_conf: Mapping[str, Any] | None = None,
    ):
        super().__init__()
        sizes = K, dim, numclasses, activate_class_partitioning, shared_keys
        self.codebook: Any
        if quantizer == "class_partitioned" and not quantizer_conf:
            # As upstream's class, it searches all codes if there are no labels.
            self.codebook = VQEmbedding(*sizes)
        else:
            self.codebook = DictionaryQuantizer(
                *sizes, quantizer=quantizer, quantizer_conf=quantizer_conf
            )
        self.use_adapter = use_adapter
        self.adapter_reduce_dim = use_adapter and adapter_reduce_dim
        if use_adapter:
            self.adapter = ResBlockAudio(dim)
        if self.adapter_reduce_dim:
            self.down = nn.Conv2d(dim, dim, kernel_size=4, stride=2, padding=1)
            self.up = nn.ConvTranspose2d(dim, dim, kernel_size=4, stride=2, padding=1)
        self._draw_decoder(dim, _EVEN_LAYERS)

    def forward(
        self, hs: Tensor, labels: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Decode a batch of representations.

        Arguments
        ---------
        hs : torch.Tensor
            (B, dim, H, W) representations.
        labels : torch.Tensor
            (B,) classes, usually the classifier's predictions; integers of any dtype.
            With None all codes are available.

        Returns
        -------
        x_tilde : torch.Tensor
            (B, 1, T, F) log-power spectrograms, with straight-through gradient to
            ``hs``.
        hcat : torch.Tensor
            (B, dim, H', W'), the input of the quantization.
        z_q_x : torch.Tensor
            (B, dim, H', W'), its output, with gradient to the dictionary.

        Raises
        ------
        ShapeError, ValueError
            As `VQEmbedding.forward`.
        """
        hcat = self.adapter(hs) if self.use_adapter else hs
        if self.adapter_reduce_dim:
            hcat = self.down(hcat)
        passed, z_q_x = self.codebook.straight_through(hcat, labels)
        if self.adapter_reduce_dim:
            passed = self.up(passed)
        return self.decoder(passed), hcat, z_q_x

    def _draw_decoder(self, dim: int, layers: Sequence[tuple[_Size, _Size]]) -> None:
        self.decoder = _decoder(dim, layers)
        self.apply(weights_init)


class VectorQuantizedPSIFocalNet_Audio(VectorQuantizedPSI_Audio):
    """`VectorQuantizedPSI_Audio` with a decoder for representations of a FocalNet.

    Arguments
    ---------
    dim : int
        Channels of the representation, and width of the codebook vectors.
    **kwargs
        As in `VectorQuantizedPSI_Audio`.

    Example
    -------
    >>> import torch
    >>> psi = VectorQuantizedPSIFocalNet_Audio(dim=4, K=50)
    >>> spectrogram, _, _ = psi(torch.randn(2, 4, 16, 16), torch.tensor([0, 2]))
    >>> spectrogram.shape
    torch.Size([2, 1, 495, 593])
    """

    def __init__(self, dim: int = 1024, **kwargs: Any):
        super().__init__(dim=dim, **kwargs)
        # As in SpeechBrain, the parent's decoder is initialized first and then
        # replaced, so that a seed gives the same weights.
        self._draw_decoder(dim, _STEEP_LAYERS)


class VectorQuantizedPSIViT_Audio(VectorQuantizedPSI_Audio):
    """`VectorQuantizedPSI_Audio` with a decoder for representations of a ViT.

    Arguments
    ---------
    dim : int
        Channels of the representation, and width of the codebook vectors.
    **kwargs
        As in `VectorQuantizedPSI_Audio`.

    Example
    -------
    >>> import torch
    >>> psi = VectorQuantizedPSIViT_Audio(dim=4, K=50)
    >>> spectrogram, _, _ = psi(torch.randn(2, 4, 16, 16), torch.tensor([0, 2]))
    >>> spectrogram.shape
    torch.Size([2, 1, 495, 593])
    """

    def __init__(self, dim: int = 768, **kwargs: Any):
        super().__init__(dim=dim, **kwargs)
        # As in the class for FocalNet.
        self._draw_decoder(dim, _STEEP_LAYERS)


def _decoder(dim: int, layers: Sequence[tuple[_Size, _Size]]) -> nn.Sequential:
    """Stack transposed convolutions; the last one outputs one channel."""
    blocks: list[nn.Module] = []
    for kernel, stride in layers[:-1]:
        blocks.append(nn.ConvTranspose2d(dim, dim, kernel, stride, padding=1))
        blocks.append(nn.ReLU(inplace=True))
        blocks.append(nn.BatchNorm2d(dim))
    kernel, stride = layers[-1]
    return nn.Sequential(*blocks, nn.ConvTranspose2d(dim, 1, kernel, stride, padding=1))
