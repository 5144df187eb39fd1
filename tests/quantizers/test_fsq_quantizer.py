"""What is particular to `fsq`."""

import math

import pytest
import torch
from random_frames import log_mel, normal

from sb_espnet_vq import ConfigError, build

LEVELS = [[8, 5, 5, 5], [3, 3], [4, 3, 16], [7, 5, 5, 5, 5], [8, 6, 4]]


def both(levels, dim):
    """Return ours and vector-quantize-pytorch's, with the same projections."""
    vqp = pytest.importorskip("vector_quantize_pytorch")
    ours = build("fsq", dim=dim, levels=levels)
    theirs = vqp.FSQ(levels, dim=dim)
    if dim != len(levels):
        # Theirs has a bias outward as well.
        torch.nn.init.zeros_(theirs.project_out.bias)
        state = {k: v for k, v in ours.state_dict().items() if k != "n_levels"}
        theirs.load_state_dict(state, strict=False)
    return ours, theirs


def equals(ours, theirs, frames):
    weight = normal(*frames.shape, seed=5)
    x, y = frames.clone().requires_grad_(), frames.clone().requires_grad_()
    out = ours(x)
    quantized, codes = theirs(y[None])
    assert torch.equal(out.codes[:, 0], codes[0].long())
    assert torch.equal(out.quantized, quantized[0])
    mine = [x, *ours.parameters()]
    # Their last parameter is the bias outward.
    other = [y, *theirs.parameters()][: len(mine)]
    got = torch.autograd.grad((out.quantized * weight).sum(), mine)
    expected = torch.autograd.grad((quantized[0] * weight).sum(), other)
    for ours_grad, their_grad in zip(got, expected, strict=True):
        torch.testing.assert_close(ours_grad, their_grad, rtol=1e-4, atol=1e-4)
    assert torch.equal(ours.decode(out.codes), quantized[0])


@pytest.mark.parametrize("levels", LEVELS, ids=str)
@pytest.mark.parametrize("scale", [0.3, 2.0])
def test_codes_values_and_gradients_are_vector_quantize_pytorchs(levels, scale):
    equals(*both(levels, len(levels)), scale * normal(20_000, len(levels)))


@pytest.mark.parametrize("levels", LEVELS, ids=str)
def test_the_same_on_log_mel_frames_between_projections(levels):
    torch.manual_seed(0)
    ours, theirs = both(levels, 80)
    frames = log_mel()
    assert ours(frames).stats["used_codes"] > 5
    equals(ours, theirs, frames)


@pytest.mark.parametrize("levels", LEVELS, ids=str)
def test_every_code_decodes_to_its_own_levels(levels):
    q = build("fsq", dim=len(levels), levels=levels)
    size = math.prod(levels)
    codes = torch.arange(size)
    values = q.decode(codes[:, None])
    # The first channel is the least significant, and runs through its levels first.
    digits, rest = [], codes
    for number in levels:
        digits.append(rest % number)
        rest = rest // number
    half = torch.tensor([number // 2 for number in levels])
    assert torch.equal(values, (torch.stack(digits, 1) - half) / half)
    assert values.min() == -1 and len(values.unique(dim=0)) == size
    assert bool((q.decode(torch.full((1, 1), -1)) == 0).all())
    places = torch.tensor([math.prod(levels[:i]) for i in range(len(levels))])
    assert q.encode(torch.zeros(1, len(levels))).item() == (half * places).sum()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("levels", [[8] * 8, [7] * 9, [8] * 20], ids=len)
def test_codes_beyond_what_a_float_holds_are_exact(levels, dtype):
    """Codes computed in float32 are wrong above 2**24."""
    q = build("fsq", dim=len(levels), levels=levels)
    x = normal(300, len(levels)).to(dtype)
    out = q(x)
    level = torch.tensor(levels) // 2
    digits = ((out.quantized.double() * level).round() + level).long().tolist()
    places = [math.prod(levels[:i]) for i in range(len(levels))]
    expected = [sum(d * p for d, p in zip(row, places, strict=True)) for row in digits]
    assert out.codes[:, 0].tolist() == expected
    assert torch.equal(q.decode(out.codes).to(dtype), out.quantized)


def test_a_second_derivative_is_that_of_the_bound():
    q = build("fsq", dim=2, levels=[4, 3])
    x = normal(5, 2, dtype=torch.float64).requires_grad_()
    (first,) = torch.autograd.grad(q(x).quantized.sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), x)
    step = 1e-5
    moved = [(x + s).detach().requires_grad_() for s in (step, -step)]
    up, down = (torch.autograd.grad(q(m).quantized.sum(), m)[0] for m in moved)
    torch.testing.assert_close(second, (up - down) / (2 * step), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("size", "levels"),
    [
        (256, (8, 6, 5)),
        (1024, (8, 5, 5, 5)),
        (1000, (8, 5, 5, 5)),
        (2**14, (8, 8, 8, 6, 5)),
        (2**16, (8, 8, 8, 5, 5, 5)),
        (4096, (8, 8, 8, 8)),
        (320, (8, 8, 5)),
        (100, (5, 5, 4)),
        (16, (4, 4)),
        (11, (3, 3)),
        (7, (7,)),
        (2**62, (8,) * 20 + (4,)),
    ],
)
def test_a_size_alone_picks_the_levels_and_says_which(size, levels):
    q = build("fsq", dim=6, codebook_size=size)
    assert q.levels == levels and q.codebook_size == math.prod(levels) <= size
    assert f"levels={list(levels)}" in repr(q)


def test_no_size_is_rounded_far():
    for size in [*range(3, 700), 10**5, 10**9 + 7, 10**15]:
        q = build("fsq", dim=3, codebook_size=size)
        assert 0.8 * size < q.codebook_size <= size
        assert set(q.levels) <= set(range(3, 9))


def test_levels_override_a_size_that_a_recipe_passes_along():
    q = build("fsq", dim=6, codebook_size=1024, levels=(7, 5))
    assert q.codebook_size == 35 and q.codebook_sizes == (35,)


@pytest.mark.parametrize(
    "options",
    [
        {"levels": []},
        {"levels": "85"},
        {"levels": 8},
        {"levels": [8, 2]},
        {"levels": [8, 5.0]},
        {"levels": [8, True]},
        {"levels": [8] * 21},
        {"codebook_size": 2},
        {"codebook_size": 2**62 + 1},
        {"codebook_size": "1024"},
    ],
    ids=str,
)
def test_wrong_levels_and_sizes_are_refused(options):
    with pytest.raises(ConfigError, match=next(iter(options))):
        build("fsq", dim=4, **options)


def test_a_state_with_other_levels_is_refused():
    q, other = (build("fsq", dim=2, levels=levels) for levels in ([8, 5], [5, 8]))
    with pytest.raises(ConfigError, match=r"levels \[5, 8\]"):
        q.load_state_dict(other.state_dict())
    assert q.n_levels.tolist() == [8, 5]
