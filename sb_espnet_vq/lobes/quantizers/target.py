"""Target adapter: labels for masked prediction, as in BEST-RQ."""

from collections.abc import Mapping
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from sb_espnet_vq.errors import ConfigError
from sb_espnet_vq.nnet.state_names import keep_upstream_names
from sb_espnet_vq.ops.collectives import copy_from_first_rank_, world_size
from sb_espnet_vq.quantizers.learning import FreezableModule
from sb_espnet_vq.quantizers.options import positive_int
from sb_espnet_vq.registry import build, same_quantizer
from sb_espnet_vq.toolkit_words import translate


class TargetQuantizer(FreezableModule):
    """Adapter for any quantizer, with the interface of `RandomProjectionQuantizer`.

    It returns labels without gradient. Loss terms are not used: parameters are frozen
    at their random initialization, so that labels come from a random quantizer, as in
    Chiu et al. 2022, https://arxiv.org/abs/2202.01855, section 3.1. EMA codebooks
    (`vq`, `rvq`) are still updated while this module is in training mode, so their
    labels change during training.

    Arguments
    ---------
    input_dim : int
        Width of the frames.
    cb_dim : int
        Width of the codebook vectors, for quantizers with the option ``code_dim``.
    cb_vocab : int
        Number of labels.
    quantizer : str
        A registered name. With the default, a seed gives the labels of upstream, and
        the checkpoint keys are those of upstream.
    quantizer_conf : dict, optional
        Options of the quantizer; they override the arguments above.
    n_codebooks : int
        Labels of each frame: the codes of the first ``n_codebooks`` codebooks.

    Raises
    ------
    ConfigError
        If the name or an option is unknown or out of range, or if the quantizer has
        fewer than ``n_codebooks`` codebooks.

    Example
    -------
    >>> target = TargetQuantizer(16, 16, 32, quantizer="vq")
    >>> target(torch.rand(10, 12, 16)).shape
    torch.Size([10, 12])
    >>> target = TargetQuantizer(16, 16, 32, n_codebooks=4)
    >>> target(torch.rand(10, 12, 16)).shape
    torch.Size([10, 12, 4])
    """

    def __init__(
        self,
        input_dim: int,
        cb_dim: int,
        cb_vocab: int,
        *,
        quantizer: str = "random_projection",
        quantizer_conf: Mapping[str, Any] | None = None,
        n_codebooks: int = 1,
    ):
        super().__init__()
        self.n_codebooks = positive_int("n_codebooks", n_codebooks)
        words = {
            "input_dim": input_dim,
            "cb_vocab": cb_vocab,
            "cb_dim": cb_dim,
            "n_codebooks": self.n_codebooks,
            "entropy_weight": 0,  # the loss is not used
        }
        options = translate(quantizer, words, quantizer_conf)
        self.quantizer = build(quantizer, **options)
        if self.quantizer.n_codebooks < self.n_codebooks:
            raise ConfigError(
                f"n_codebooks is {self.n_codebooks}, but the quantizer {quantizer!r} "
                f"gives each frame {self.quantizer.n_codebooks} code(s): use fewer "
                "codebooks, or a quantizer with several, such as random_projection"
            )
        # Only the parameters, since freezing the quantizer would stop moving averages.
        for parameter in self.quantizer.parameters():
            parameter.requires_grad_(False)
        if same_quantizer(quantizer, "random_projection"):
            keep_upstream_names(self)
        self._ranks_agree = False

    @torch.no_grad()
    def forward(self, x: Tensor, *, mask: Tensor | None = None) -> Tensor:
        """Return the label of each frame; in training, update moving averages.

        Arguments
        ---------
        x : torch.Tensor
            (B, T, input_dim) float.
        mask : torch.Tensor, optional
            (B, T) bool, True at valid frames.

        Returns
        -------
        torch.Tensor
            (B, T) int64, or (B, T, n_codebooks) for several codebooks. Padding and
            non-finite frames get 0, so that a loss does not index out of bounds before
            the trainer detects the frame.

        Raises
        ------
        ShapeError
            If a shape or dtype is wrong.
        """
        if self.training and world_size() > 1:
            self._agree_over_ranks()
        labels = self._codes(x, mask)[..., : self.n_codebooks].clamp(min=0)
        return labels if self.n_codebooks > 1 else labels[..., 0]

    def _codes(self, x: Tensor, mask: Tensor | None) -> Tensor:
        if self.training and self.quantizer.learning:
            codes = self.quantizer(x, mask=mask).codes
            if not self.quantizer.draws_codes:
                return codes
        # Labels must not be random.
        return self.quantizer.encode(x, mask=mask)

    def _agree_over_ranks(self) -> None:
        """Broadcast the parameters and buffers of rank 0, once.

        DDP would do so, but trainers apply it only to modules with trainable
        parameters.
        """
        if self._ranks_agree:
            return
        for table in chain(self.parameters(), self.buffers()):
            copy_from_first_rank_(table)
        self._ranks_agree = True
