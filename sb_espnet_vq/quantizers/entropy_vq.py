"""`entropy_vq`: a codebook learned by gradient, with an entropy regularizer."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sb_espnet_vq.ops.entropy import entropy
from sb_espnet_vq.ops.estimators import straight_through
from sb_espnet_vq.ops.frames import Frames
from sb_espnet_vq.ops.nearest import nearest_code
from sb_espnet_vq.ops.soft_assignment import assign
from sb_espnet_vq.quantizers.base import Quantized, Quantizer, QuantizerOutput
from sb_espnet_vq.quantizers.held import without_held
from sb_espnet_vq.quantizers.options import in_range, true_or_false
from sb_espnet_vq.quantizers.precision import table_dtype


class EntropyVQ(Quantizer):
    """Vector quantizer with a trained codebook and an entropy term for uniform usage.

    Commitment and codebook losses as in van den Oord et al. 2017,
    https://arxiv.org/abs/1711.00937, equation 3. The entropy term is the negative
    entropy of the mean soft assignment, softmax(-||x - c||^2 / temperature)
    averaged over frames. Its minimum, -log(codebook_size), is reached if all codes are
    used equally.

    Arguments
    ---------
    dim : int
        Width of the frames.
    codebook_size : int
        Number of codes.
    temperature : float
        Temperature of the soft assignment, > 0; lower is harder.
    commitment_weight : float
        Weight of the commitment loss: mean squared distance between frames and
        their codebook vectors, with gradient only to the frames.
    codebook_weight : float
        Weight of the codebook loss: the same distance, with gradient only to the
        codebook vectors. At 0 only the entropy term trains the codebook.
    entropy_weight : float
        Weight of the entropy term.
    frozen : bool
        No updates in training; gradients still reach the frames.

    Raises
    ------
    ConfigError
        If an option is out of range.

    Example
    -------
    >>> import torch
    >>> q = EntropyVQ(dim=8, codebook_size=16)
    >>> out = q(torch.randn(2, 100, 8))
    >>> sorted(out.stats)
    ['codebook', 'commitment', 'entropy', 'perplexity', 'used_codes']
    """

    gives_probabilities = True

    held: Tensor | None

    def __init__(
        self,
        dim: int,
        codebook_size: int = 1024,
        temperature: float = 1.0,
        commitment_weight: float = 0.25,
        codebook_weight: float = 1.0,
        entropy_weight: float = 0.1,
        frozen: bool = False,
    ):
        super().__init__(dim, codebook_size)
        self.temperature = in_range("temperature", temperature, 1e-6, float("inf"))
        weights = {
            "commitment": commitment_weight,
            "codebook": codebook_weight,
            "entropy": entropy_weight,
        }
        for name, weight in weights.items():
            in_range(f"{name}_weight", weight, 0, float("inf"))
        self.loss_weights = weights
        self.codebook = nn.Embedding(codebook_size, dim)
        bound = 1 / codebook_size
        nn.init.uniform_(self.codebook.weight, -bound, bound)
        self.register_buffer("held", None, persistent=False)
        if true_or_false("frozen", frozen):
            self.requires_grad_(False)

    def forward_with_terms(
        self, x: Tensor, *, mask: Tensor | None = None
    ) -> tuple[QuantizerOutput, dict[str, Tensor]]:
        """Do what ``forward`` does; also return each loss term, with gradient.

        Arguments
        ---------
        x, mask
            As in ``forward``.

        Returns
        -------
        out : QuantizerOutput
            As from ``forward``.
        terms : dict
            ``commitment``, ``codebook`` and ``entropy``, scalars before their weights.

        Raises
        ------
        ShapeError
            As in ``forward``.
        """
        out, result = self._forward(x, mask, None)
        return out, result.terms

    def _hold(self, entries: Tensor | None) -> None:
        self.held = None if entries is None else entries[0]

    def _quantize(self, frames: Frames) -> Quantized:
        table = without_held(self.codebook.weight, self.held).to(frames.x.dtype)
        codes, assigned = assign(frames.x, table, frames.weight, self.temperature)
        usage = frames.mean_of_sum(assigned)
        chosen = F.embedding(codes, table)
        terms = {
            "commitment": frames.mean_square(frames.x, chosen.detach()),
            "codebook": frames.mean_square(frames.x.detach(), chosen),
            "entropy": -entropy(usage),
        }
        codes = codes[:, None]
        value = straight_through(frames.x, self._decode(codes))
        return Quantized(value, codes, terms, usage=usage[None])

    def _search(self, frames: Frames) -> Tensor:
        table = self.codebook.weight.to(frames.x.dtype)
        return nearest_code(frames.x, table)[:, None]

    def _decode(self, codes: Tensor) -> Tensor:
        table = self.codebook.weight.detach()
        entries = F.embedding(codes[:, 0].clamp(min=0), table.to(table_dtype(table)))
        return torch.where(codes >= 0, entries, 0)
