"""What is particular to `grouped`."""

import pytest
import torch
from random_frames import normal

from sb_espnet_vq import ConfigError, build


def test_codes_are_ordered_by_level():
    torch.manual_seed(0)
    q = build("grouped", dim=8, codebook_size=16, n_codebooks=6, n_groups=2)
    for step in range(3):
        q(normal(4, 100, 8, seed=step))
    x = normal(50, 8, seed=9)
    codes = q.eval().encode(x)
    for group, part in enumerate(q.parts):
        mine = x[:, 4 * group : 4 * group + 4]
        assert torch.equal(codes[:, group::2], part.encode(mine))
    assert torch.equal(q.encode(x, n_codebooks=3), codes[:, :3])
    value = q.decode(codes[:, :1])
    assert torch.equal(value[:, :4], q.parts[0].decode(codes[:, :1]))
    assert not bool(value[:, 4:].any())


def test_over_rvq_it_is_the_quantizer_of_hificodec():
    module = pytest.importorskip("espnet2.gan_codec.hificodec.module")
    torch.manual_seed(0)
    # Its width is fixed: 512 channels in two groups, projected to 512 each.
    theirs = module.GroupResidualVectorQuantization(
        [8.0], 256, 4, 64, 0.99, False, 50, 2
    )
    theirs.eval()
    conf = {"code_dim": 512}
    ours = build(
        "grouped", dim=512, codebook_size=64, n_codebooks=8, quantizer_conf=conf
    )
    state = ours.state_dict()
    for group in (0, 1):
        vq = getattr(theirs, f"quantizer{group}").vq
        state |= {f"parts.{group}.{key}": x for key, x in vq.state_dict().items()}
    ours.eval().load_state_dict(state)
    x = normal(1, 100, 512)
    with torch.no_grad():
        # (levels, groups, T), for a batch of one.
        codes = theirs.encode(x.transpose(1, 2), 50)
        value = theirs.decode(codes)
    mine = ours.encode(x)[0].unflatten(1, (4, 2)).permute(1, 2, 0)
    assert torch.equal(mine, codes)
    decoded = ours.decode(codes.permute(2, 0, 1).flatten(1)[None])
    torch.testing.assert_close(decoded, value.transpose(1, 2), rtol=0, atol=1e-6)


def test_over_residual_fsq_it_is_grouped_residual_fsq():
    vqp = pytest.importorskip("vector_quantize_pytorch")
    levels = [8, 5, 5]
    conf = {"quantizer": "fsq", "quantizer_conf": {"levels": levels}, "n_codebooks": 3}
    ours = build("grouped", dim=6, quantizer="residual", quantizer_conf=conf).eval()
    theirs = vqp.GroupedResidualFSQ(dim=6, groups=2, levels=levels, num_quantizers=3)
    x = normal(1, 500, 6)
    value, codes = theirs.eval()(x)
    out = ours(x)
    agree = (out.codes[..., 0::2] == codes[0]) & (out.codes[..., 1::2] == codes[1])
    assert int((~agree).sum()) <= 1
    agree = agree.all(-1)
    torch.testing.assert_close(out.quantized[agree], value[agree], rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("given", "codebooks"),
    [
        ({}, 16),
        ({"n_codebooks": 6}, 6),
        ({"n_codebooks": 1}, 1),
        ({"n_codebooks": 1, "n_groups": 2}, 2),
        ({"n_codebooks": 8, "quantizer": "fsq"}, 2),
        ({"n_codebooks": 8, "quantizer_conf": {"n_codebooks": 3}}, 6),
    ],
    ids=str,
)
def test_number_of_codebooks(given, codebooks):
    q = build("grouped", dim=8, codebook_size=16, **given)
    assert q.n_codebooks == codebooks


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"dim": 9}, r"dim must be a multiple of n_groups \(2\), as 8 or 10; got 9"),
        ({"n_codebooks": 5}, "n_codebooks must be a multiple .* as 4 or 6; got 5"),
        ({"n_groups": 0}, "n_groups must be"),
        ({"quantizer": "vqq"}, "unknown quantizer 'vqq'"),
        ({"quantizer_conf": {"dim": 8}}, "width of the frames is 4"),
        ({"quantizer_conf": {"decai": 1}}, "'rvq' has no option 'decai'"),
    ],
    ids=str,
)
def test_wrong_options_are_refused(given, reason):
    with pytest.raises(ConfigError, match=reason):
        build("grouped", **{"dim": 8, "codebook_size": 16, **given})
