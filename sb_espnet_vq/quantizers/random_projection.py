"""`random_projection`: a frozen random projection and codebook."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sb_espnet_vq.ops.devices import TensorVersion, eager_on_cpu
from sb_espnet_vq.ops.estimators import straight_through
from sb_espnet_vq.ops.frames import Frames
from sb_espnet_vq.ops.nearest import best_score
from sb_espnet_vq.ops.scores import scores
from sb_espnet_vq.quantizers.base import Quantized, Quantizer
from sb_espnet_vq.quantizers.options import positive_int
from sb_espnet_vq.quantizers.precision import table_dtype


class RandomProjection(Quantizer):
    """Random-projection quantizer: fixed targets for masked prediction.

    Chiu et al. 2022, "BEST-RQ", https://arxiv.org/abs/2202.01855, section 3.1: the
    code of x is the index of the vector of a random unit-norm codebook that is nearest
    to the normalized random projection of x. As all codebook vectors have norm 1, that
    vector also has the largest inner product with the unnormalized projection. A code
    decodes to the frame of minimum norm whose projection is the codebook vector
    (pseudo-inverse). Nothing is trained.

    Arguments
    ---------
    dim : int
        Width of the frames.
    codebook_size : int
        Number of codes.
    code_dim : int
        Width of the projection.

    Raises
    ------
    ConfigError
        If an option is out of range.

    Buffers
    -------
    P : (dim, code_dim) the projection, Xavier-uniform.
    CB : (codebook_size, code_dim) the codebook, unit-norm rows.
    unproject : (code_dim, dim) pseudo-inverse of P; not saved, recomputed
        when P changes.

    Example
    -------
    >>> import torch
    >>> q = RandomProjection(dim=80, codebook_size=512)
    >>> q.encode(torch.randn(2, 100, 80)).shape
    torch.Size([2, 100, 1])
    """

    # There is nothing to train.
    frozen = True

    P: Tensor
    CB: Tensor
    unproject: Tensor

    def __init__(self, dim: int, codebook_size: int = 8192, code_dim: int = 16):
        super().__init__(dim, codebook_size)
        self.code_dim = positive_int("code_dim", code_dim)
        # In SpeechBrain's order, so that a seed gives the same tensors.
        projection = nn.init.xavier_uniform_(torch.empty(dim, code_dim))
        self.register_buffer("P", projection)
        self.register_buffer("CB", F.normalize(torch.randn(codebook_size, code_dim)))
        self.register_buffer("unproject", _pseudo_inverse(self.P), persistent=False)
        self._note_inverse()

    def _quantize(self, frames: Frames) -> Quantized:
        codes = self._search(frames)
        return Quantized(straight_through(frames.x, self._decode(codes)), codes, {})

    def _search(self, frames: Frames) -> Tensor:
        x = frames.x.detach()
        projected = scores(x, self.P.t().to(x.dtype))
        return best_score(projected, self.CB.to(x.dtype))[:, None]

    def _decode(self, codes: Tensor) -> Tensor:
        dtype = table_dtype(self.CB)
        entries = F.embedding(codes[:, 0].clamp(min=0), self.CB.to(dtype))
        entries = torch.where(codes >= 0, entries, 0)
        return entries @ self._inverse().to(dtype)

    def _inverse(self) -> Tensor:
        """Return the pseudo-inverse of the current P."""
        if torch.compiler.is_exporting() or torch.jit.is_tracing():
            return self.unproject  # ONNX has no such operator
        if torch.compiler.is_compiling():
            return _pseudo_inverse(self.P)
        # On a GPU a comparison of values would synchronize the device.
        copy, version = self._inverted
        same_kind = copy.dtype == self.P.dtype and copy.device == self.P.device
        if eager_on_cpu(self.P):
            known = same_kind and torch.equal(copy, self.P)
        else:
            known = same_kind and version.is_of(self.P)
        if not known:
            self.unproject = _pseudo_inverse(self.P).to(self.P.dtype)
            self._note_inverse()
        return self.unproject

    def _note_inverse(self) -> None:
        """Record which projection was inverted."""
        self._inverted = self.P.detach().clone(), TensorVersion(self.P)

    def _load_from_state_dict(self, *args, **kwargs):
        super()._load_from_state_dict(*args, **kwargs)
        self._inverse()


def _pseudo_inverse(projection: Tensor) -> Tensor:
    return torch.linalg.pinv(projection.to(table_dtype(projection)))
