"""Scriptable versions of quantizers, for SpeechBrain's ``--jit``.

TorchScript supports neither context managers of other modules nor collectives nor
custom autograd functions. Drop-ins for classes that SpeechBrain can script return one
of these modules from ``__prepare_scriptable__``. It shares the tensors of the drop-in,
has the same checkpoint keys and returns the same results, but it does not check shapes
or sum over ranks.
"""

import torch
from torch import Tensor, nn

from sb_espnet_vq.ops.entropy import entropy, sign_entropy
from sb_espnet_vq.ops.nearest import tile_rows
from sb_espnet_vq.ops.sign_patterns import pattern_product
from sb_espnet_vq.ops.sphere import sign_codes, sign_logits, unit_vectors


class ScriptableRandomProjection(nn.Module):
    """Scriptable forward of `RandomProjectionQuantizer`.

    Arguments
    ---------
    P : torch.Tensor
        (input_dim, cb_dim) projection.
    CB : torch.Tensor
        (cb_vocab, cb_dim) codebook with unit-norm rows.

    Example
    -------
    >>> from sb_espnet_vq.nnet.quantisers import RandomProjectionQuantizer
    >>> scripted = torch.jit.script(RandomProjectionQuantizer(16, 16, 32))
    >>> scripted(torch.rand(10, 12, 16)).shape
    torch.Size([10, 12])
    """

    P: Tensor
    CB: Tensor

    def __init__(self, P: Tensor, CB: Tensor):
        super().__init__()
        self.register_buffer("P", P)
        self.register_buffer("CB", CB)
        # For both device types, since a scripted module may be moved.
        self.rows_on_cpu = tile_rows(torch.empty(0, device="cpu"), len(CB))
        self.rows_on_device = tile_rows(torch.empty(0, device="meta"), len(CB))

    def forward(self, x: Tensor) -> Tensor:
        """Return the code (...) of each frame (..., input_dim); 0 if not finite."""
        frames = _wide(x.detach()).reshape(-1, x.shape[-1])
        frames = torch.where(_finite(frames), frames, 0.0)
        table = self.CB.to(frames.dtype).t()
        codes = torch.empty(frames.shape[0], dtype=torch.int64, device=x.device)
        # In tiles, since all scores would need far more memory than the frames.
        rows = self.rows_on_cpu if x.device.type == "cpu" else self.rows_on_device
        for start in range(0, frames.shape[0], rows):
            projected = frames[start : start + rows] @ self.P.to(frames.dtype)
            codes[start : start + rows] = (projected @ table).argmax(1)
        return codes.reshape(x.shape[:-1])


class ScriptableBSQ(nn.Module):
    """Scriptable forward of `BinarySphericalQuantizer`.

    Arguments
    ---------
    mask : torch.Tensor
        (code_dim,) int64, the value of each bit.
    entropy_loss_weight, diversity_gamma : float
        As in `BinarySphericalQuantizer`.

    Example
    -------
    >>> from sb_espnet_vq.lobes.models.bsq import BinarySphericalQuantizer
    >>> scripted = torch.jit.script(BinarySphericalQuantizer(13))
    >>> quantized, indices, aux_loss = scripted(torch.randn(2, 50, 13))
    >>> quantized.shape, indices.shape
    (torch.Size([2, 50, 13]), torch.Size([2, 50]))
    """

    mask: Tensor

    def __init__(
        self, mask: Tensor, entropy_loss_weight: float, diversity_gamma: float
    ):
        super().__init__()
        self.register_buffer("mask", mask)
        self.entropy_loss_weight = float(entropy_loss_weight)
        self.diversity_gamma = float(diversity_gamma)

    def forward(
        self, x: Tensor, inv_temperature: float = 100.0, mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Quantize a batch as `BinarySphericalQuantizer.forward` does."""
        bits = len(self.mask)
        frames = _wide(x).reshape(-1, bits)
        valid = _finite(frames)
        bad = ~valid
        if mask is not None:
            unmasked = mask.reshape(-1, 1)
            valid, bad = valid & unmasked, bad & unmasked
        frames = torch.where(valid, frames, 0.0)
        u = unit_vectors(frames)
        indices = sign_codes(u, self.mask)
        signs = ((u > 0).to(u.dtype) * 2 - 1) * bits**-0.5
        # Straight-through: adds 0 with the gradient of u.
        quantized = signs + (u - u.detach())
        loss = quantized[:1].sum() * 0
        if self.entropy_loss_weight > 0:
            weight = valid[:, 0].to(u.dtype)
            logits = sign_logits(u, inv_temperature)
            count = weight.sum().clamp(min=1.0)
            of_frames = (sign_entropy(logits) * weight).sum() / count
            usage = pattern_product(logits, weight) / count
            term = of_frames - self.diversity_gamma * entropy(usage)
            loss = loss + self.entropy_loss_weight * term
        # A product, so that the gradient becomes NaN too.
        loss = loss * torch.where(bad.any(), torch.nan, 1.0)
        quantized = torch.where(valid, quantized, torch.where(bad, torch.nan, 0.0))
        indices = torch.where(valid[:, 0], indices, -1)
        lead = x.shape[:-1]
        return (
            quantized.to(x.dtype).reshape(x.shape),
            indices.reshape(lead),
            loss.float(),
        )


def _wide(x: Tensor) -> Tensor:
    # A script cannot disable autocast, nor query it on a CPU (torch 2.12 crashes). The
    # dtype of a float32 product reveals it. Autocast does not change float64 products.
    one = torch.ones([1, 1], dtype=torch.float32, device=x.device)
    if one.mm(one).dtype != torch.float32:
        return x.double()
    return x if x.dtype == torch.float64 else x.float()


def _finite(frames: Tensor) -> Tensor:
    return frames.isfinite().all(-1, keepdim=True)
