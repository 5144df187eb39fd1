"""Residual quantizers of other packages in the comparison."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from sb_espnet_vq.bench.distortion.model import Model, Sizes
from sb_espnet_vq.errors import ConfigError


class ESPnetModel(Model):
    """ESPnet's ResidualVectorQuantizer with moving averages."""

    module = "espnet2.gan_codec.shared.quantizer.residual_vq"
    _FRAME_RATE = 100

    def __init__(self, sizes: Sizes, options: dict[str, Any]):
        kind = import_module(self.module).ResidualVectorQuantizer
        dim, size, n_codebooks = sizes
        self.sizes = (size,) * n_codebooks
        self.quantizer = kind(
            dimension=dim, codebook_dim=dim, n_q=n_codebooks, bins=size, **options
        )

    @torch.no_grad()
    def train(self, batches: Iterable[Tensor]) -> None:
        """Update the moving averages."""
        self.quantizer.train()
        for x in batches:
            self.quantizer(x.T[None], self._FRAME_RATE)
        self.quantizer.eval()

    @torch.no_grad()
    def encode(self, x: Tensor, beam: int) -> Tensor:
        """Return the codes of all codebooks."""
        return self.quantizer.encode(x.T[None], self._FRAME_RATE)[:, 0].T

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        """Return the values."""
        return self.quantizer.decode(codes.T[:, None])[0].T


class VQPModel(Model):
    """vector-quantize-pytorch's ResidualVQ with moving averages, as in ESPnet."""

    module = "vector_quantize_pytorch"
    _OPTIONS = {
        "decay": 0.99,
        "kmeans_init": True,
        "kmeans_iters": 50,
        "threshold_ema_dead_code": 2,
    }

    def __init__(self, sizes: Sizes, options: dict[str, Any]):
        dim, size, n_codebooks = sizes
        self.sizes = (size,) * n_codebooks
        self.quantizer = import_module(self.module).ResidualVQ(
            dim=dim,
            codebook_size=size,
            num_quantizers=n_codebooks,
            **(self._OPTIONS | options),
        )

    @torch.no_grad()
    def train(self, batches: Iterable[Tensor]) -> None:
        """Update the moving averages."""
        self.quantizer.train()
        for x in batches:
            self.quantizer(x[None])
        self.quantizer.eval()

    @torch.no_grad()
    def encode(self, x: Tensor, beam: int) -> Tensor:
        """Return the codes."""
        return self.quantizer(x[None])[1][0]

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        """Return the values."""
        return self.quantizer.get_output_from_indices(codes[None])[0]


class FaissModel(Model):
    """faiss's ResidualQuantizer, trained on the frames of all batches at once.

    Its option ``beam`` is the beam of training and search.
    """

    module = "faiss"

    def __init__(self, sizes: Sizes, options: dict[str, Any]):
        dim, size, n_codebooks = sizes
        self.bits = size.bit_length() - 1
        if size != 2**self.bits:
            raise ConfigError(f"faiss needs a codebook_size of 2**n, got {size}")
        self.faiss = import_module(self.module)
        self.faiss.omp_set_num_threads(torch.get_num_threads())
        self.sizes = (size,) * n_codebooks
        self.quantizer = self.faiss.ResidualQuantizer(dim, n_codebooks, self.bits)
        self.quantizer.max_beam_size = options.pop("beam", 1)
        if options:
            raise ConfigError(f"faiss takes only beam, got {', '.join(options)}")

    def train(self, batches: Iterable[Tensor]) -> None:
        """Run k-means for each codebook in turn."""
        # Each frame once: a random order repeats only after all frames.
        frames = torch.cat(list(batches)).unique(dim=0)
        self.quantizer.train(frames.numpy())

    def encode(self, x: Tensor, beam: int) -> Tensor:
        """Return the codes."""
        packed = self.quantizer.compute_codes(x.contiguous().numpy())
        codes = self.faiss.unpack_bitstrings(packed, len(self.sizes), self.bits)
        return torch.from_numpy(codes.astype("int64"))

    def decode(self, codes: Tensor) -> Tensor:
        """Return the values."""
        numbers = codes.numpy().astype("int32")
        packed = self.faiss.pack_bitstrings(numbers, self.bits)
        return torch.from_numpy(self.quantizer.decode(packed))


#: Names of the quantizers of other packages.
OTHERS: dict[str, Any] = {
    "espnet": ESPnetModel,
    "vqp": VQPModel,
    "faiss": FaissModel,
}
