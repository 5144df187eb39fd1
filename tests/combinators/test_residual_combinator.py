"""What is particular to `residual`."""

import pytest
import torch
from random_frames import clusters, log_mel, normal

from sb_espnet_vq import ConfigError, build

LEVELS = [8, 5, 5, 5]


def residual(dim, quantizer, conf=None, **options):
    torch.manual_seed(0)
    conf = {"quantizer": quantizer, "quantizer_conf": conf, **options}
    return build("residual", dim=dim, **{"n_codebooks": 4, **conf})


def beside_vqp(levels, dim):
    """Return ours over fsq and vector-quantize-pytorch's, with the same weights."""
    vqp = pytest.importorskip("vector_quantize_pytorch")
    ours = residual(dim, "fsq", {"levels": levels}).eval()
    theirs = vqp.ResidualFSQ(levels=levels, num_quantizers=4, dim=dim).eval()
    if dim != len(levels):
        # Theirs has a bias outward as well.
        torch.nn.init.zeros_(theirs.project_out.bias)
        own = {k: v for k, v in ours.state_dict().items() if k.startswith("project")}
        theirs.load_state_dict(own, strict=False)
    return ours, theirs


@pytest.mark.parametrize("levels", [LEVELS, [3, 3], [4, 4, 7]], ids=str)
@pytest.mark.parametrize("frames", ["log-mel", "normal"])
def test_over_fsq_it_is_residual_fsq(levels, frames):
    dim = 80 if frames == "log-mel" else len(levels)
    x = log_mel() if frames == "log-mel" else normal(2000, dim)
    ours, theirs = beside_vqp(levels, dim)
    a, b = (x.clone().requires_grad_() for _ in range(2))
    out, (value, codes) = ours(a), theirs(b[None])
    # Frames between two levels may be rounded either way.
    agree = (out.codes == codes[0]).all(-1)
    assert int((~agree).sum()) <= len(x) // 1000
    torch.testing.assert_close(out.quantized[agree], value[0][agree], rtol=0, atol=1e-6)
    weight = normal(*x.shape, seed=5)
    (out.quantized * weight)[agree].sum().backward()
    (value[0] * weight)[agree].sum().backward()
    # A channel at the end of the grid may lie in or out of it.
    near = torch.isclose(a.grad * 4, b.grad, rtol=1e-4, atol=1e-4).all(-1)
    assert int((~near).sum()) <= 2 + len(x) // 1000


def test_over_vq_it_is_rvq():
    torch.manual_seed(0)
    rvq = build("rvq", dim=8, codebook_size=16, n_codebooks=4)
    chain = residual(8, "vq", codebook_size=16)
    same_name = {k.replace("layers.", "parts."): v for k, v in rvq.state_dict().items()}
    chain.load_state_dict(same_name)
    weight = normal(3, 100, 8, seed=5)
    for step in range(3):
        results = []
        for q in (rvq, chain):
            torch.manual_seed(step)
            x = normal(3, 100, 8, seed=step).requires_grad_()
            out = q(x)
            (out.loss + (out.quantized * weight).sum()).backward()
            results.append((out.quantized, out.codes, out.loss, x.grad))
        torch.testing.assert_close(results[1], results[0])
    for name, buffer in rvq.named_buffers():
        mine = chain.get_buffer(name.replace("layers.", "parts."))
        torch.testing.assert_close(mine, buffer, msg=name)


@pytest.mark.parametrize(
    ("quantizer", "conf", "most"),
    [
        ("fsq", {"levels": [5, 5, 5, 5]}, 1 / 5),
        ("fsq", {"levels": [4, 4, 4, 4]}, 1 / 4),
        ("lfq", {"codebook_size": 16}, 1 / 2),
        ("bsq", {"codebook_size": 16}, 1 / 2),
    ],
)
def test_each_level_of_a_grid_divides_the_error_by_its_levels(quantizer, conf, most):
    q = residual(4, quantizer, conf).eval()
    x = q._inward(normal(500, 4))  # what the chain can represent
    x.clamp_(-0.9 * q.limits, 0.9 * q.limits)
    # The inverse of the squashing, so that the chain gets x.
    frames = q.limits * (x / q.limits).atanh()
    codes = q.encode(frames)
    errors = [(q.decode(codes[:, :k]) - x).abs().max().item() for k in range(1, 5)]
    for error, next_error in zip(errors, errors[1:], strict=False):
        assert next_error == pytest.approx(error * most, rel=0.15), errors


def test_scales_are_fixed_learned_or_absent():
    conf = {"levels": [5, 4]}
    fixed = residual(2, "fsq", conf)
    expected = torch.tensor([[1, 1], [1 / 5, 1 / 4], [1 / 25, 1 / 16]])
    torch.testing.assert_close(fixed.scales[:3], expected)
    assert not list(fixed.parameters())
    learned = residual(2, "fsq", conf, scale="learned")
    x = normal(50, 2)
    torch.testing.assert_close(learned(x).quantized, fixed(x).quantized)
    learned(x).quantized.square().sum().backward()
    assert bool((learned.log_scales.grad != 0).all())
    none = residual(2, "fsq", conf, scale="none")
    assert none.scales is None and none.limits is None
    assert residual(8, "vq").scales is None
    with pytest.raises(ConfigError, match="fixed, learned, none, got 'auto'"):
        residual(2, "fsq", conf, scale="auto")


def test_projections_are_once_around_the_chain_or_in_each_level():
    conf = {"levels": LEVELS}
    once = residual(32, "fsq", conf)
    assert once.inner_dim == 4 and once.project_in.weight.shape == (4, 32)
    each = residual(32, "fsq", conf, inner_dim=32)
    assert isinstance(each.project_in, torch.nn.Identity) and each.scales is None
    assert each.parts[0].project_in.weight.shape == (4, 32)


def test_dropped_levels_learn_from_the_frames_all_the_same():
    # No dead codes are replaced, since that draws random numbers too.
    conf = {"threshold_ema_dead_code": 0}
    plain = residual(8, "vq", conf, codebook_size=16)
    q = residual(8, "vq", conf, codebook_size=16, quantizer_dropout=True)
    x = clusters(1200).view(12, 100, 8)
    for _ in range(3):
        plain(x)
    q.load_state_dict(plain.state_dict())
    expected, out = plain(x), q(x)
    kept = out.codes >= 0
    numbers = kept.sum(-1)
    assert bool((numbers == numbers[:, :1]).all()) and len(numbers.unique()) > 1
    assert torch.equal(out.codes[kept], expected.codes[kept])
    assert torch.equal(out.loss, expected.loss)
    for name, buffer in plain.named_buffers():
        assert torch.equal(q.get_buffer(name), buffer), name


def test_levels_of_several_codebooks():
    conf = {"n_groups": 2, "n_codebooks": 1, "quantizer": "fsq"}
    q = residual(8, "grouped", conf, codebook_size=16, n_codebooks=6)
    assert len(q.parts) == 3 and q.n_codebooks == 6
    with pytest.raises(ConfigError, match="2 codebooks of a level, as 4 or 6; got 5"):
        residual(8, "grouped", conf, codebook_size=16, n_codebooks=5)
