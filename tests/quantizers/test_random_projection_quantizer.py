"""What is particular to `random_projection`."""

import pytest
import torch
import torch.nn.functional as F
from random_frames import log_mel, normal

from sb_espnet_vq import ConfigError, build, testing
from sb_espnet_vq.quantizers.random_projection import RandomProjection

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


# --- several codebooks, and metrics


def several(n_codebooks=3, **more):
    torch.manual_seed(5)
    options = {"dim": 40, "codebook_size": 64, "code_dim": 8} | more
    return build("random_projection", n_codebooks=n_codebooks, **options)


def parts(q):
    """Each codebook's projection and codebook."""
    return zip(q.P.split(8, 1), q.CB.split(64), strict=True)


def test_more_codebooks_leave_the_first_ones_unchanged():
    one, three = several(1), several(3)
    assert torch.equal(three.P[:, :8], one.P) and torch.equal(three.CB[:64], one.CB)
    x = normal(300, 40)
    codes = three.encode(x)
    assert torch.equal(codes[:, :1], one.encode(x))
    assert torch.equal(three.encode(x, n_codebooks=2), codes[:, :2])
    assert not torch.equal(codes[:, 0], codes[:, 1])


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_codes_of_each_metric(metric):
    q, x = several(metric=metric), normal(500, 40)
    for column, (projection, codebook) in zip(q.encode(x).T, parts(q), strict=True):
        projected = x @ projection
        if metric == "cosine":
            projected, codebook = F.normalize(projected), F.normalize(codebook)
        assert torch.equal(column, torch.cdist(projected, codebook).argmin(1))
    louder = q.encode(x * 4)
    assert torch.equal(louder, q.encode(x)) == (metric == "cosine")


def test_values_are_the_least_frame_with_the_projections_of_the_codes():
    q = several(dim=80)
    codes = q.encode(normal(200, 80))
    vectors = [book[codes[:, k]] for k, (_, book) in enumerate(parts(q))]
    for k, (projection, _) in enumerate(parts(q)):
        torch.testing.assert_close(
            q.decode(codes) @ projection, vectors[k], rtol=1e-3, atol=1e-4
        )
    # A missing code means a projection of 0.
    torch.testing.assert_close(
        q.decode(codes[:, :1]) @ q.P,
        torch.cat([vectors[0], torch.zeros(200, 16)], 1),
        rtol=1e-3,
        atol=1e-4,
    )


@pytest.mark.parametrize("n_codebooks", [2, 5, 20])
def test_values_stay_as_small_as_frames(n_codebooks):
    # Five projections to 8 channels would determine frames of 40 channels exactly,
    # but are nearly dependent.
    q, x = several(n_codebooks, metric="euclidean"), normal(2000, 40)
    error = (q(x).quantized - x).square().mean()
    assert error < x.square().mean()


def of_vqp(q, n_codebooks):
    """Return vector-quantize-pytorch's class with the tensors of ours."""
    vqp = pytest.importorskip("vector_quantize_pytorch")
    theirs = vqp.RandomProjectionQuantizer(
        dim=q.dim, codebook_size=64, codebook_dim=8, num_codebooks=n_codebooks
    )
    theirs.rand_projs.copy_(torch.stack(q.P.split(8, 1)))
    width = 8 * n_codebooks
    for k, (_, codebook) in enumerate(parts(q)):
        theirs.vq._codebook.embed[k] = F.pad(codebook, (0, width - 8))
    if n_codebooks > 1:
        # It mixes the projections by a linear layer before the codebooks: here each
        # codebook gets its own projection.
        weight = torch.zeros(n_codebooks, width, width)
        for k in range(n_codebooks):
            weight[k, :8, 8 * k : 8 * k + 8] = torch.eye(8)
        theirs.vq.project_in.weight.data = weight.flatten(0, 1)
        theirs.vq.project_in.bias.data.zero_()
    return theirs


@pytest.mark.parametrize("n_codebooks", [1, 4])
@pytest.mark.parametrize("kind", ["normal", "log-mel"])
def test_codes_are_vector_quantize_pytorchs(kind, n_codebooks):
    x = normal(20_000, 40) if kind == "normal" else log_mel()
    q = several(n_codebooks, dim=x.shape[1])
    theirs = of_vqp(q, n_codebooks)
    # Its default normalizes each frame first.
    codes = theirs(x[None]).view(-1, n_codebooks)
    assert torch.equal(q.encode(F.layer_norm(x, x.shape[1:])), codes)
    theirs.norm = torch.nn.Identity()
    assert torch.equal(q.encode(x), theirs(x[None]).view(-1, n_codebooks))


@pytest.mark.parametrize("distance", ["cosine", "l2"])
def test_codes_are_nemos(distance):
    q, x = several(4), normal(20_000, 40)
    # NeMo's module holds these two parameters.
    weight, codebooks = q.P.t(), q.CB.view(4, 64, 8)
    projected = F.normalize(F.linear(x, weight).view(-1, 4, 8), dim=-1)
    if distance == "cosine":
        codes = torch.einsum("nkd,kvd->nkv", projected, codebooks).argmax(-1)
    else:
        codes = torch.cdist(projected.transpose(0, 1), codebooks).argmin(-1).t()
    assert torch.equal(q.encode(x), codes)


def test_an_unknown_metric_is_refused():
    with pytest.raises(ConfigError, match="metric must be one of cosine, euclidean"):
        build("random_projection", dim=8, metric="l2")


class ThreeCodebooks(RandomProjection):
    """The variant with options that are not the default."""

    def __init__(self, dim, codebook_size=64, code_dim=8, n_codebooks=3):
        super().__init__(dim, codebook_size, code_dim, n_codebooks, "euclidean")


@pytest.mark.parametrize(
    "check", [check for check in testing.list_checks() if not check.slow], ids=str
)
def test_three_codebooks_keep_the_contract(check):
    check(f"{__name__}.ThreeCodebooks")
