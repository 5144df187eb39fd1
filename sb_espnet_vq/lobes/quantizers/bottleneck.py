"""Bottleneck adapter: quantizes the latent frames of a codec, as in FocalCodec."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from sb_espnet_vq.errors import ConfigError
from sb_espnet_vq.lobes.quantizers.options import squeeze_codes
from sb_espnet_vq.quantizers.learning import FreezableModule
from sb_espnet_vq.quantizers.options import positive_int
from sb_espnet_vq.registry import build, find_quantizer, same_quantizer
from sb_espnet_vq.toolkit_words import translate

_MAX_TABLE_BITS = 24


class BottleneckQuantizer(FreezableModule):
    """Adapter for any quantizer, with the interface of `BinarySphericalQuantizer`.

    Arguments
    ---------
    code_dim : int
        Width of the frames. There are 2**code_dim codes (with `fsq` at most), in one
        codebook unless ``quantizer_conf`` sets more, so that the bitrate is that of
        upstream.
    entropy_loss_weight : float
        Weight of the entropy term, for quantizers that have one.
    diversity_gamma : float
        Weight of the entropy of the mean assignment within the entropy term, for
        `bsq` and `lfq`.
    quantizer : str
        A registered name. The default returns the values of upstream and has its
        checkpoint keys.
    quantizer_conf : dict, optional
        Options of the quantizer; they override the arguments above.

    Raises
    ------
    ConfigError
        If the name or an option is unknown or out of range, or if a quantizer with
        a table (``has_table``) would need more than 2**24 codes.

    Buffers
    -------
    mask : (code_dim,) int64, the value of each bit, for upstream's checkpoints; only
        with `bsq`.

    Example
    -------
    >>> import torch
    >>> conf = {"codebook_size": 1024, "n_codebooks": 2}
    >>> quantizer = BottleneckQuantizer(13, quantizer="rvq", quantizer_conf=conf)
    >>> quantized, codes, loss = quantizer(torch.randn(2, 50, 13))
    >>> quantized.shape, codes.shape
    (torch.Size([2, 50, 13]), torch.Size([2, 50, 2]))
    """

    def __init__(
        self,
        code_dim: int,
        entropy_loss_weight: float = 0.1,
        diversity_gamma: float = 1.0,
        *,
        quantizer: str = "bsq",
        quantizer_conf: Mapping[str, Any] | None = None,
    ):
        super().__init__()
        size = 2 ** positive_int("code_dim", code_dim)
        words = {
            "dim": code_dim,
            "codebook_size": size,
            "n_codebooks": 1,
            "entropy_loss_weight": entropy_loss_weight,
            "diversity_gamma": diversity_gamma,
        }
        options = translate(quantizer, words, quantizer_conf)
        named = "codebook_size" in (quantizer_conf or {})
        too_many = code_dim > _MAX_TABLE_BITS and not named
        if too_many and find_quantizer(quantizer).has_table:
            raise ConfigError(
                f"code_dim {code_dim} means 2**{code_dim} codes, too many for the "
                f"table of {quantizer!r}; give codebook_size in quantizer_conf. (A "
                "quantizer without a table declares has_table = False in its class.)"
            )
        self.quantizer = build(quantizer, **options)
        is_bsq = same_quantizer(quantizer, "bsq")
        if is_bsq and self.quantizer.codebook_size == size:
            self.register_buffer("mask", 2 ** torch.arange(code_dim - 1, -1, -1))
            self.register_load_state_dict_pre_hook(_fill_in_mask)

    def forward(
        self,
        x: Tensor,
        inv_temperature: float | None = None,
        *,
        mask: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Quantize a batch; in training, learn from it.

        Arguments
        ---------
        x : torch.Tensor
            (..., code_dim) float.
        inv_temperature : float, optional
            Inverse temperature of the soft assignment of `bsq` or `lfq`. Default: that
            of the quantizer, 100 unless ``quantizer_conf`` sets another. Quantizers
            without one (``takes_inv_temperature``) ignore it.
        mask : torch.Tensor, optional
            (...) bool, True at valid frames.

        Returns
        -------
        quantized : torch.Tensor
            (..., code_dim) with straight-through gradient.
        codes : torch.Tensor
            (...) int64, or (..., K) with K > 1 codebooks; -1 at padding and
            non-finite frames.
        loss : torch.Tensor
            Scalar, weighted sum of the loss terms.

        Raises
        ------
        ShapeError
            If a shape or dtype is wrong.
        """
        options = {}
        if self.quantizer.takes_inv_temperature:
            options["inv_temperature"] = inv_temperature
        out = self.quantizer(x, mask=mask, **options)
        return out.quantized, squeeze_codes(out.codes), out.loss


def _fill_in_mask(module: Any, state: dict[str, Any], prefix: str, *_) -> None:
    # Checkpoints of earlier versions lack it; it depends only on code_dim.
    state.setdefault(f"{prefix}mask", module.mask)
