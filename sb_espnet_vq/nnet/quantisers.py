"""Drop-in for `speechbrain.nnet.quantisers`, and an entropy-regularized quantizer.

`GumbelVectorQuantizer` and `RandomProjectionQuantizer` have the constructor, return
values and state dict of SpeechBrain's classes; `VectorQuantizer` is an addition. Each
class holds the quantizer that does the computation. docs/deviations.md lists intended
differences in results.
"""

import torch
from torch import Tensor, nn

from sb_espnet_vq.errors import ConfigError
from sb_espnet_vq.nnet.drop_in import DropIn
from sb_espnet_vq.nnet.scriptable import ScriptableRandomProjection
from sb_espnet_vq.ops.collectives import world_size
from sb_espnet_vq.ops.entropy import entropy
from sb_espnet_vq.ops.usage import code_shares
from sb_espnet_vq.quantizers.entropy_vq import EntropyVQ
from sb_espnet_vq.quantizers.gumbel import GumbelGroups
from sb_espnet_vq.quantizers.options import positive_int
from sb_espnet_vq.quantizers.random_projection import RandomProjection

__all__ = ["GumbelVectorQuantizer", "RandomProjectionQuantizer", "VectorQuantizer"]


class GumbelVectorQuantizer(DropIn):
    """Gumbel-softmax quantizer of wav2vec 2.0, for SpeechBrain's lobes.

    Baevski et al. 2020, https://arxiv.org/abs/2006.11477, equations 1 and 4.

    Arguments
    ---------
    input_dim : int
        Width of the input frames.
    num_vars : int
        Codebook vectors in each group.
    temp_tuple : tuple of float
        (start, stop, decay) of the temperature, which `update_temp` sets.
    groups : int
        Number of groups.
    vq_dim : int
        Width of the output, a multiple of ``groups``.

    Raises
    ------
    ConfigError
        If ``groups`` does not divide ``vq_dim`` or an option is out of range.

    Example
    -------
    >>> quantiser = GumbelVectorQuantizer(128, 100, (2.0, 0.25, 0.999995), 2, 50)
    >>> output = quantiser(torch.rand(10, 12, 128))
    >>> output["x"].shape, output["num_vars"], output["temp"]
    (torch.Size([10, 12, 50]), 200, 2.0)
    """

    def __init__(
        self,
        input_dim: int,
        num_vars: int,
        temp_tuple: tuple[float, float, float],
        groups: int,
        vq_dim: int,
    ):
        if positive_int("vq_dim", vq_dim) % positive_int("groups", groups):
            raise ConfigError(
                f"vq_dim must be a multiple of groups, got {vq_dim} and {groups}"
            )
        super().__init__(GumbelGroups(input_dim, num_vars, groups, vq_dim, temp_tuple))
        self.input_dim = input_dim
        self.num_vars = num_vars
        self.groups = groups
        self.vq_dim = vq_dim
        self.max_temp, self.min_temp, self.temp_decay = temp_tuple
        # Next to `vars`, since optimizers store state by the order of parameters.
        largest = torch.tensor(float(num_vars * groups)).log()
        max_ent = nn.Parameter(largest, requires_grad=False)
        self.quantizer.register_parameter("max_ent", max_ent)

    @property
    def vars(self) -> nn.Parameter:
        """Codebook vectors of all groups, (1, groups * num_vars, vq_dim / groups)."""
        return self.quantizer.vars

    @property
    def weight_proj(self) -> nn.Linear:
        """Layer from frames to logits."""
        return self.quantizer.weight_proj

    @property
    def max_ent(self) -> nn.Parameter:
        """Logarithm of the number of codebook vectors, not trained."""
        return self.quantizer.max_ent

    @property
    def curr_temp(self) -> float:
        """Temperature of the next training forward."""
        return self.quantizer.temperature()

    @curr_temp.setter
    def curr_temp(self, temperature: float) -> None:
        self.quantizer.set_temperature(temperature)

    @property
    def codebook_size(self) -> int:
        """Codebook vectors in each group."""
        return self.num_vars

    def update_temp(self, steps: int) -> None:
        """Set the temperature for training step ``steps``."""
        self.curr_temp = max(self.max_temp * self.temp_decay**steps, self.min_temp)

    def forward(self, x: Tensor, *, mask: Tensor | None = None) -> dict:
        """Quantize a batch.

        Arguments
        ---------
        x : torch.Tensor
            (B, T, input_dim) float.
        mask : torch.Tensor, optional
            (B, T) bool, True at valid frames; padding is then ignored everywhere.

        Returns
        -------
        dict
            ``x`` (B, T, vq_dim); ``num_vars``, number of codes in all groups;
            ``temp``; ``code_perplexity`` and ``prob_perplex``, perplexity of the most
            likely codes and of the mean probabilities (with gradient), summed over
            groups and, in training, computed over the frames of all ranks.

        Raises
        ------
        ShapeError
            If a shape or dtype is wrong.
        """
        return self.forward_with_used_codes(x, mask=mask)[0]

    def forward_with_used_codes(
        self, x: Tensor, *, mask: Tensor | None = None
    ) -> tuple[dict, Tensor, Tensor]:
        """Quantize a batch; also return the most likely codes of each frame.

        Arguments
        ---------
        x, mask
            As in ``forward``.

        Returns
        -------
        dict
            As from ``forward``.
        used_codes : torch.Tensor
            Scalar, number of codes that are the most likely one of at least one frame,
            summed over groups and, in training, computed over the frames of all ranks.
        codes : torch.Tensor
            (B, T, groups) int64, the most likely codes, which eval mode uses; -1 for
            padding and for non-finite frames.

        Raises
        ------
        ShapeError
            As in ``forward``.
        """
        out, usage = self.quantizer.forward_with_usage(x, mask=mask)
        shares = code_shares(out.codes, self.num_vars, self.training, usage.dtype)
        output = {
            "num_vars": self.num_vars * self.groups,
            "temp": self.curr_temp,
            "code_perplexity": entropy(shares, 1e-7).exp().sum(),
            "prob_perplex": entropy(usage, 1e-7).exp().sum(),
            "x": out.quantized,
        }
        return output, (shares > 0).sum().float(), out.codes


class RandomProjectionQuantizer(DropIn):
    """Random-projection quantizer of BEST-RQ.

    Chiu et al. 2022, https://arxiv.org/abs/2202.01855, section 3.1. The first training
    forward broadcasts the projection and codebook of rank 0.

    Arguments
    ---------
    input_dim : int
        Width of the frames.
    cb_dim : int
        Width of the projection.
    cb_vocab : int
        Number of codes.

    Raises
    ------
    ConfigError
        If one of them is not a positive integer.

    Buffers
    -------
    P : (input_dim, cb_dim), CB : (cb_vocab, cb_dim); a seed gives the same values as
        upstream.

    Example
    -------
    >>> quantiser = RandomProjectionQuantizer(16, 16, 32)
    >>> quantiser(torch.rand(10, 12, 16)).shape
    torch.Size([10, 12])
    """

    def __init__(self, input_dim: int, cb_dim: int, cb_vocab: int):
        super().__init__(RandomProjection(input_dim, cb_vocab, cb_dim))
        self.input_dim = input_dim
        self.cb_dim = cb_dim
        self.cb_vocab = cb_vocab

    @property
    def P(self) -> Tensor:
        """Projection (input_dim, cb_dim)."""
        return self.quantizer.P

    @property
    def CB(self) -> Tensor:
        """Codebook (cb_vocab, cb_dim) with unit-norm rows."""
        return self.quantizer.CB

    def forward(self, x: Tensor) -> Tensor:
        """Return the code of each frame.

        Arguments
        ---------
        x : torch.Tensor
            (B, T, input_dim) float, or any leading shape.

        Returns
        -------
        torch.Tensor
            (B, T) int64. A non-finite frame gets 0, so that a loss does not index out
            of bounds before the trainer can detect the frame.

        Raises
        ------
        ShapeError
            If a shape or dtype is wrong.
        """
        if self.training and world_size() > 1:
            self.quantizer._agree_over_ranks()
        return self.encode(x)[..., 0].clamp(min=0)

    def __prepare_scriptable__(self) -> nn.Module:
        """Return the module that torch.jit.script compiles instead of this one."""
        return ScriptableRandomProjection(self.P, self.CB).train(self.training)


class VectorQuantizer(DropIn):
    """Vector quantizer with an entropy term for uniform code usage.

    Only the entropy term trains the codebook; use `EntropyVQ` to train it also with a
    codebook loss.

    Arguments
    ---------
    K : int
        Number of codes.
    d_z : int
        Width of the frames.
    temp : float
        Temperature of the soft assignment; lower is harder.

    Raises
    ------
    ConfigError
        If an option is out of range.

    Example
    -------
    >>> quantizer = VectorQuantizer(K=16, d_z=8)
    >>> z_q, indices, commit_loss, entropy_loss = quantizer(torch.randn(2, 50, 8))
    >>> z_q.shape, indices.shape
    (torch.Size([2, 50, 8]), torch.Size([2, 50]))
    """

    def __init__(self, K: int, d_z: int, temp: float = 1.0):
        super().__init__(EntropyVQ(d_z, K, temperature=temp))
        self.K = K
        self.d_z = d_z
        self.temp = temp

    @property
    def codebook(self) -> nn.Embedding:
        """Codebook, whose weight is (K, d_z)."""
        return self.quantizer.codebook

    def forward(
        self, z_e: Tensor, *, mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Quantize a batch.

        Arguments
        ---------
        z_e : torch.Tensor
            (B, L, d_z) float.
        mask : torch.Tensor, optional
            (B, L) bool, True at valid frames.

        Returns
        -------
        z_q : torch.Tensor
            (B, L, d_z) with straight-through gradient.
        indices : torch.Tensor
            (B, L) int64, -1 at padding and non-finite frames.
        commit_loss : torch.Tensor
            Scalar, mean squared distance between frames and their codebook vectors,
            with gradient only to the frames.
        entropy_loss : torch.Tensor
            Scalar, negative entropy (nats) of the mean soft assignment.

        Raises
        ------
        ShapeError
            If a shape or dtype is wrong.
        """
        out, terms = self.quantizer.forward_with_terms(z_e, mask=mask)
        return out.quantized, out.codes[..., 0], terms["commitment"], terms["entropy"]
