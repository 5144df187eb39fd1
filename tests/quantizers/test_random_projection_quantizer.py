"""What is particular to `random_projection`."""

import pytest
import torch
import torch.nn.functional as F
from random_frames import normal

from sb_espnet_vq import build

# --- random_projection


@pytest.mark.parametrize(("dim", "code_dim"), [(20, 6), (4, 6)])
def test_random_projection(dim, code_dim):
    q = build("random_projection", dim=dim, codebook_size=50, code_dim=code_dim)
    x = normal(200, dim)
    codes = q.encode(x)
    projected = F.normalize(x @ q.P)
    assert torch.equal(codes[:, 0], torch.cdist(projected, q.CB).argmin(1))
    assert torch.equal(q.encode(x * 7), codes), "the norm of a frame does not matter"
    expected = q.CB[codes[:, 0]] @ torch.linalg.pinv(q.P)
    torch.testing.assert_close(q.decode(codes), expected, rtol=1e-4, atol=1e-5)
    if dim >= code_dim:
        torch.testing.assert_close(
            q.decode(codes) @ q.P, q.CB[codes[:, 0]], rtol=1e-4, atol=1e-5
        )
    assert not list(q.parameters()) and set(q.state_dict()) == {"P", "CB"}


def test_pseudo_inverse_is_rebuilt_on_load():
    q, other = (build("random_projection", dim=8, codebook_size=16) for _ in range(2))
    other.load_state_dict(q.state_dict())
    assert torch.equal(other.unproject, q.unproject)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_pseudo_inverse_is_that_of_the_cast_projection(dtype):
    q, other = (build("random_projection", dim=8).to(dtype) for _ in range(2))
    other.load_state_dict(q.state_dict())
    codes = torch.arange(9)[:, None]
    value, inverse = q.decode(codes), torch.linalg.pinv(q.P)
    assert torch.equal(other.decode(codes), value)
    assert torch.equal(value, q.CB[:9] @ inverse)
    # Tables that were rounded to half precision would give other labels.
    assert q.P.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)


def test_pseudo_inverse_follows_a_projection_written_in_place():
    q, other = (build("random_projection", dim=8, codebook_size=16) for _ in range(2))
    with torch.no_grad():
        for mine, theirs in zip(q.buffers(), other.buffers(), strict=True):
            if mine is not q.unproject:
                mine.copy_(theirs)
    codes = torch.arange(9)[:, None]
    assert torch.equal(q.decode(codes), other.decode(codes))
