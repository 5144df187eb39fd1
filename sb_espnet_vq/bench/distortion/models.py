"""The quantizers to compare: any registered one, and those of other packages."""

from __future__ import annotations

import copy
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable
from importlib import import_module
from importlib.util import find_spec
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from sb_espnet_vq.errors import ConfigError
from sb_espnet_vq.quantizers.chain import beam_options
from sb_espnet_vq.quantizers.refit import refit
from sb_espnet_vq.registry import build, find_quantizer
from sb_espnet_vq.toolkit_words import translate

# Frames that are refitted at once.
_CHUNK = 2**14


class Sizes(NamedTuple):
    """Width of the frames, codes in each codebook, number of codebooks."""

    dim: int
    codebook_size: int
    n_codebooks: int


class Model(ABC):
    """A quantizer to train and to measure, of frames (N, dim)."""

    #: Codes in each codebook.
    sizes: tuple[int, ...]
    #: Whether `encode` takes other beams than 1.
    takes_beam = False

    @abstractmethod
    def train(self, batches: Iterable[Tensor]) -> None:
        """Learn from batches of frames (M, dim)."""

    def refitted(self, x: Tensor, rounds: int, beam: int) -> Model | None:
        """Return a copy refitted to frames (N, dim) by least squares, if possible."""
        return None

    @abstractmethod
    def encode(self, x: Tensor, beam: int) -> Tensor:
        """Return codes (N, K) int64 of frames."""

    @abstractmethod
    def decode(self, codes: Tensor) -> Tensor:
        """Return values (N, dim) of codes."""


class OurModel(Model):
    """A registered quantizer, trained by gradient if it has parameters.

    Arguments
    ---------
    name : str
        Of the quantizer.
    sizes : Sizes
        A quantizer without several codebooks has one.
    options : dict
        Of the quantizer; they override the sizes.
    lr : float
        Learning rate of Adam.
    """

    def __init__(self, name: str, sizes: Sizes, options: dict[str, Any], lr: float):
        self.quantizer = build(name, **translate(name, sizes._asdict(), options))
        if self.quantizer.needs_labels:
            raise ConfigError(f"{name}: its codes depend on labels, which are unknown")
        self.sizes = self.quantizer.codebook_sizes
        self.takes_beam = self.quantizer.takes_beam
        self.lr = lr

    def train(self, batches: Iterable[Tensor]) -> None:
        """Minimize squared error and the quantizer's loss, if it has parameters."""
        quantizer = self.quantizer.train()
        learnt = [each for each in quantizer.parameters() if each.requires_grad]
        optimizer = torch.optim.Adam(learnt, self.lr) if learnt else None
        for step, x in enumerate(batches):
            quantizer.set_step(step)
            with torch.set_grad_enabled(bool(learnt)):
                out = quantizer(x)
            if optimizer is not None:
                optimizer.zero_grad()
                (F.mse_loss(out.quantized, x) + out.loss).backward()
                optimizer.step()
        quantizer.eval()

    def refitted(self, x: Tensor, rounds: int, beam: int) -> Model | None:
        """Return a copy with refitted codebooks, of residual quantizers."""
        if not self.takes_beam:
            return None
        other = copy.deepcopy(self)
        try:
            refit(other.quantizer, x.split(_CHUNK), rounds, beam)
        except ConfigError:
            # Codebooks that cannot be replaced, such as those behind projections.
            return None
        return other

    def encode(self, x: Tensor, beam: int) -> Tensor:
        """Return the codes."""
        options = beam_options(self.quantizer, beam)
        return self.quantizer.encode(x, **options)

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        """Return the values."""
        return self.quantizer.decode(codes)


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


def parse(text: str) -> tuple[str, dict[str, Any]]:
    """Read ``NAME`` or ``NAME:option=value,...``.

    Arguments
    ---------
    text : str
        Values are JSON, or else text; commas inside brackets belong to a value.

    Returns
    -------
    name : str
        Of a registered quantizer, or of `OTHERS`.
    options : dict
        Of the quantizer.

    Raises
    ------
    ConfigError
        If an option has no value or the quantizer is unknown.

    Example
    -------
    >>> parse('rvq:decay=0.9,kmeans_init=false')
    ('rvq', {'decay': 0.9, 'kmeans_init': False})
    """
    name, _, rest = text.partition(":")
    if name not in OTHERS:
        find_quantizer(name)
    options: dict[str, Any] = {}
    for pair in _pairs(rest):
        key, equals, value = pair.partition("=")
        if not key.strip() or not equals:
            raise ConfigError(f"{text}: {pair!r} is not of the form option=value")
        try:
            options[key.strip()] = json.loads(value)
        except ValueError:
            options[key.strip()] = value.strip()
    return name, options


def make_model(name: str, options: dict[str, Any], sizes: Sizes, lr: float) -> Model:
    """Build an untrained model.

    Arguments
    ---------
    name, options
        From `parse`.
    sizes : Sizes
        Of frames and codebooks.
    lr : float
        Learning rate of quantizers that learn by gradient.

    Returns
    -------
    Model

    Raises
    ------
    ConfigError
        If an option is invalid or a package is missing.
    """
    if name not in OTHERS:
        return OurModel(name, sizes, dict(options), lr)
    kind = OTHERS[name]
    package = kind.module.partition(".")[0]
    if find_spec(package) is None:
        raise ConfigError(f"{name}: the package {package} is not installed")
    return kind(sizes, dict(options))


def _pairs(text: str) -> list[str]:
    """Split at commas outside of brackets."""
    pairs, depth, start = [], 0, 0
    for place, letter in enumerate(text):
        depth += (letter in "[{(") - (letter in "]})")
        if letter == "," and depth == 0:
            pairs.append(text[start:place])
            start = place + 1
    return [*pairs, text[start:]] if text else []
