"""Drop-in for `speechbrain.lobes.models.bsq`."""

import torch
from torch import Tensor, nn

from sb_espnet_vq.nnet.drop_in import DropIn
from sb_espnet_vq.nnet.scriptable import ScriptableBSQ
from sb_espnet_vq.quantizers.bsq import BSQ

__all__ = ["BinarySphericalQuantizer"]


class BinarySphericalQuantizer(DropIn):
    """Binary spherical quantizer with the interface of SpeechBrain's class.

    Zhao et al. 2024, https://arxiv.org/abs/2406.07548. The entropy loss is exact
    and does not need 2**code_dim scores for each frame.

    Arguments
    ---------
    code_dim : int
        Number of bits, up to 24 (62 with ``entropy_loss_weight`` 0).
    entropy_loss_weight : float
        Weight of the auxiliary loss.
    diversity_gamma : float
        Weight of the entropy of the mean assignment within the auxiliary loss.

    Raises
    ------
    ConfigError
        If an option is out of range.

    Buffers
    -------
    mask : (code_dim,) int64, the value of each bit, for upstream's checkpoints.

    Example
    -------
    >>> quantizer = BinarySphericalQuantizer(13)
    >>> quant, indices, aux_loss = quantizer(torch.randn(2, 50, 13))
    >>> quant.shape, indices.shape
    (torch.Size([2, 50, 13]), torch.Size([2, 50]))
    """

    mask: Tensor

    def __init__(
        self,
        code_dim: int,
        entropy_loss_weight: float = 0.1,
        diversity_gamma: float = 1.0,
    ):
        super().__init__(
            BSQ(
                code_dim,
                entropy_weight=entropy_loss_weight,
                diversity_gamma=diversity_gamma,
            )
        )
        self.code_dim = code_dim
        self.entropy_loss_weight = entropy_loss_weight
        self.diversity_gamma = diversity_gamma
        self.register_buffer("mask", 2 ** torch.arange(code_dim - 1, -1, -1))

    def bits_to_codes(self, bits: Tensor) -> Tensor:
        """Map bits {0, 1} to signs {-1, +1} of the same shape."""
        return bits * 2 - 1

    @property
    def codebook(self) -> Tensor:
        """All signs (2**code_dim, code_dim) float, one row per code; not stored."""
        shifts = torch.arange(self.code_dim - 1, -1, -1, device=self.mask.device)
        codes = torch.arange(2**self.code_dim, device=self.mask.device)
        return self.bits_to_codes((codes[:, None] >> shifts) & 1).float()

    def forward(
        self,
        x: Tensor,
        inv_temperature: float = 100.0,
        *,
        mask: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Quantize a batch.

        Arguments
        ---------
        x : torch.Tensor
            (..., code_dim) float.
        inv_temperature : float
            Inverse temperature of the soft assignment; higher is harder.
        mask : torch.Tensor, optional
            (...) bool, True at valid frames.

        Returns
        -------
        quantized : torch.Tensor
            (..., code_dim) values of +-1/sqrt(code_dim), with straight-through
            gradient.
        indices : torch.Tensor
            (...) int64, -1 at padding and non-finite frames.
        aux_loss : torch.Tensor
            Scalar; in training, its mean over ranks is the loss of the whole batch.

        Raises
        ------
        ShapeError
            If a shape or dtype is wrong.
        """
        out = self.quantizer(x, mask=mask, inv_temperature=inv_temperature)
        return out.quantized, out.codes[..., 0], out.loss

    def __prepare_scriptable__(self) -> nn.Module:
        """Return the module that torch.jit.script compiles instead of this one."""
        module = ScriptableBSQ(
            self.mask, self.entropy_loss_weight, self.diversity_gamma
        )
        return module.train(self.training)
