"""Drop-in for `speechbrain.nnet.quantisers`, and the entropy-regularised quantizer.

Each class has the constructor, returns and state of the one it replaces; the work
is done by the family it derives from. Where numbers differ on purpose is listed
in docs/deviations.md.
"""

import torch
from torch import Tensor, nn

from sb_espnet_vq.errors import ConfigError
from sb_espnet_vq.nnet.scriptable import ScriptableRandomProjection
from sb_espnet_vq.ops.collectives import world_size
from sb_espnet_vq.ops.entropy import entropy
from sb_espnet_vq.ops.frames import Frames
from sb_espnet_vq.ops.usage import code_counts
from sb_espnet_vq.quantizers.base import Quantizer
from sb_espnet_vq.quantizers.entropy_vq import EntropyVQ
from sb_espnet_vq.quantizers.gumbel import GumbelVQ
from sb_espnet_vq.quantizers.options import positive_int
from sb_espnet_vq.quantizers.precision import full_precision
from sb_espnet_vq.quantizers.random_projection import RandomProjection

__all__ = ["GumbelVectorQuantizer", "RandomProjectionQuantizer", "VectorQuantizer"]


class GumbelVectorQuantizer(GumbelVQ):
    """Gumbel-softmax quantizer of wav2vec 2.0, as SpeechBrain's lobes call it.

    Baevski et al. 2020, https://arxiv.org/abs/2006.11477, equations 1 and 4.

    Arguments
    ---------
    input_dim : int
        Width of the frames that come in.
    num_vars : int
        Entries in each group.
    temp_tuple : tuple of float
        (start, stop, decay) of the temperature, which `update_temp` sets.
    groups : int
        Number of groups.
    vq_dim : int
        Width of what comes out, a multiple of ``groups``.

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
        # The family's own constructor would give it equal widths and a step buffer
        # that upstream's checkpoints lack.
        Quantizer.__init__(self, input_dim, num_vars, groups)
        if positive_int("vq_dim", vq_dim) % groups:
            raise ConfigError(
                f"vq_dim must be a multiple of groups, got {vq_dim} and {groups}"
            )
        self._build(vq_dim, temp_tuple)
        self.input_dim = input_dim
        self.num_vars = num_vars
        self.groups = groups
        self.vq_dim = vq_dim
        self.curr_temp = self.max_temp
        largest = torch.tensor(float(num_vars * groups)).log()
        self.max_ent = nn.Parameter(largest, requires_grad=False)

    def update_temp(self, steps: int) -> None:
        """Set the temperature for training step ``steps``."""
        self.curr_temp = max(self.max_temp * self.temp_decay**steps, self.min_temp)

    def temperature(self) -> float:
        """Return the temperature that `update_temp` set."""
        return self.curr_temp

    def forward(self, x: Tensor, *, mask: Tensor | None = None) -> dict:
        """Quantize a batch.

        Arguments
        ---------
        x : torch.Tensor
            (B, T, input_dim) float.
        mask : torch.Tensor, optional
            (B, T) bool, True at real frames; padding then counts nowhere.

        Returns
        -------
        dict
            ``x`` (B, T, vq_dim); ``num_vars``, entries of all groups; ``temp``;
            ``code_perplexity`` and ``prob_perplex``, perplexity of the likeliest
            entries and of the mean probabilities (with gradient), summed over
            groups, over the frames of all ranks in training.

        Raises
        ------
        ShapeError
            If a shape or dtype is wrong.
        """
        return self.forward_with_used_codes(x, mask=mask)[0]

    def forward_with_used_codes(
        self, x: Tensor, *, mask: Tensor | None = None
    ) -> tuple[dict, Tensor, Tensor]:
        """Quantize a batch, and return the likeliest entries of each frame.

        Arguments
        ---------
        x, mask
            As in ``forward``.

        Returns
        -------
        dict
            That of ``forward``.
        used_codes : torch.Tensor
            Scalar, how many entries were the likeliest of a frame, summed over groups,
            over the frames of all ranks in training.
        codes : torch.Tensor
            (B, T, groups) int64, the likeliest entries, which eval takes; -1 for
            padding and for frames that are not finite.

        Raises
        ------
        ShapeError
            As in ``forward``.
        """
        self._check_input(x, mask, None)
        shared = self.training and world_size() > 1
        with full_precision(x):
            frames, bad = self._frames(x, mask, None, shared)
            choose = self._drawn if self.training else self._likeliest
            value, likeliest, probs = choose(frames)
            nothing = torch.where(bad, torch.nan, 0.0)[:, None]
            value = torch.where(frames.valid[:, None], value, nothing)
            share = self._code_share(frames, likeliest)
            answer = {
                "num_vars": self.num_vars * self.groups,
                "temp": self.curr_temp,
                "code_perplexity": entropy(share, 1e-7).exp().sum(),
                "prob_perplex": entropy(frames.mean_of_sum(probs), 1e-7).exp().sum(),
                "x": value.to(x.dtype).view(*x.shape[:-1], self.vq_dim),
            }
            codes = torch.where(frames.valid[:, None], likeliest, -1)
            codes = codes.view(*x.shape[:-1], self.groups)
            return answer, (share > 0).sum().float(), codes

    def _drawn(self, frames: Frames):
        drawn = self.draw(frames.x, frame_weight=frames.weight)
        return self._outward(drawn.entries), drawn.likeliest, drawn.probs

    def _likeliest(self, frames: Frames):
        logits = self.logits(frames.x)
        codes = logits.argmax(-1)
        probs = frames.weight @ logits.softmax(-1).flatten(1)
        return self._decode(codes), codes, probs.view(self.groups, -1)

    @torch.no_grad()
    def _code_share(self, frames: Frames, codes: Tensor) -> Tensor:
        return frames.mean_of_sum(code_counts(codes, frames.weight, self.num_vars))


class RandomProjectionQuantizer(RandomProjection):
    """Random-projection quantizer of BEST-RQ.

    Chiu et al. 2022, https://arxiv.org/abs/2202.01855, section 3.1. In its first
    training forward every rank takes over the tables of rank 0.

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
    P : (input_dim, cb_dim), CB : (cb_vocab, cb_dim); a seed gives upstream's.

    Example
    -------
    >>> quantiser = RandomProjectionQuantizer(16, 16, 32)
    >>> quantiser(torch.rand(10, 12, 16)).shape
    torch.Size([10, 12])
    """

    def __init__(self, input_dim: int, cb_dim: int, cb_vocab: int):
        super().__init__(input_dim, cb_vocab, cb_dim)
        self.input_dim = input_dim
        self.cb_dim = cb_dim
        self.cb_vocab = cb_vocab

    def forward(self, x: Tensor) -> Tensor:
        """Return the code of each frame.

        Arguments
        ---------
        x : torch.Tensor
            (B, T, input_dim) float, or any leading shape.

        Returns
        -------
        torch.Tensor
            (B, T) int64. A frame that is not finite gets 0, so that a loss over
            codes does not index out of bounds before the trainer sees the frame.

        Raises
        ------
        ShapeError
            If a shape or dtype is wrong.
        """
        if self.training and world_size() > 1:
            self._agree_over_ranks()
        return self.encode(x)[..., 0].clamp(min=0)

    def __prepare_scriptable__(self) -> nn.Module:
        """Return what torch.jit.script compiles in place of this module."""
        return ScriptableRandomProjection(self.P, self.CB).train(self.training)


class VectorQuantizer(EntropyVQ):
    """Quantizer that an entropy term alone keeps in even use.

    Only the entropy term moves the codebook; use `EntropyVQ` to let the codebook
    follow its frames too.

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
        super().__init__(
            d_z,
            K,
            temperature=temp,
            commitment_weight=1.0,
            codebook_weight=0.0,
            entropy_weight=1.0,
        )
        self.K = K
        self.d_z = d_z
        self.temp = temp

    def forward(
        self, z_e: Tensor, *, mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Quantize a batch.

        Arguments
        ---------
        z_e : torch.Tensor
            (B, L, d_z) float.
        mask : torch.Tensor, optional
            (B, L) bool, True at real frames.

        Returns
        -------
        z_q : torch.Tensor
            (B, L, d_z) with straight-through gradient.
        indices : torch.Tensor
            (B, L) int64.
        commit_loss : torch.Tensor
            Scalar, mean squared distance of frames to their fixed codes.
        entropy_loss : torch.Tensor
            Scalar, negative entropy (nats) of the mean soft assignment.

        Raises
        ------
        ShapeError
            If a shape or dtype is wrong.
        """
        out, found = self._forward(z_e, mask, None)
        terms = found.terms
        return out.quantized, out.codes[..., 0], terms["commitment"], terms["entropy"]
