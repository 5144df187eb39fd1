"""ESPnet's quantizer against ours, from equal state, over several training steps."""

import pytest
import torch
from espnet2.gan_codec.shared.quantizer import residual_vq as upstream

from sb_espnet_vq import ConfigError, ShapeError
from sb_espnet_vq.gan_codec.shared.quantizer.residual_vq import (
    QuantizedResult,
    ResidualVectorQuantizer,
)

SMALL = dict(dimension=16, codebook_dim=16, n_q=4, bins=8, kmeans_iters=5)
FRAME_RATE = 50


def both(seed=0, **options):
    options = {**SMALL, "threshold_ema_dead_code": 0, **options}
    pair = []
    for cls in (upstream.ResidualVectorQuantizer, ResidualVectorQuantizer):
        torch.manual_seed(seed)
        pair.append(cls(**options))
    pair[1].load_state_dict(pair[0].state_dict(), strict=True)
    pair[0].load_state_dict(pair[1].state_dict(), strict=True)
    return pair


def step(quantizer, x, weight, bandwidth, seed):
    torch.manual_seed(seed)
    x = x.clone().requires_grad_()
    result = quantizer(x, FRAME_RATE, bandwidth)
    loss = (result[0] * weight).sum() + result[3]
    if loss.requires_grad:
        loss.backward()
    return result, x.grad


def assert_same(got, expected, **tolerance):
    for mine, theirs in zip(got, expected, strict=True):
        torch.testing.assert_close(mine, theirs, **tolerance)


def assert_same_state(mine, theirs):
    for name, value in theirs.state_dict().items():
        torch.testing.assert_close(
            mine.state_dict()[name], value, rtol=1e-5, atol=1e-5, msg=name
        )


@pytest.mark.parametrize("dropout", [False, True])
@pytest.mark.parametrize("codebook_dim", [16, 8])
@pytest.mark.parametrize("kmeans", [True, False])
def test_training_steps_equal(kmeans, codebook_dim, dropout):
    """Outputs, gradient to the input and EMA buffers; the k-means start too."""
    theirs, mine = both(
        kmeans_init=kmeans, codebook_dim=codebook_dim, quantizer_dropout=dropout
    )
    for number, bandwidth in enumerate([None, 0.45, 0, None]):
        x, weight = torch.randn(2, 3, 16, 40)
        expected, expected_grad = step(theirs, x, weight, bandwidth, number)
        got, got_grad = step(mine, x, weight, bandwidth, number)
        assert_same(got, expected, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(got_grad, expected_grad, rtol=1e-5, atol=1e-5)
        assert_same_state(mine, theirs)
    theirs.eval()
    mine.eval()
    x, weight = torch.randn(2, 3, 16, 40)
    assert_same(
        step(mine, x, weight, None, 0)[0],
        step(theirs, x, weight, None, 0)[0],
        rtol=1e-5,
        atol=1e-5,
    )
    codes = theirs.encode(x, FRAME_RATE, 0.5)
    assert torch.equal(mine.encode(x, FRAME_RATE, 0.5), codes)
    torch.testing.assert_close(mine.decode(codes), theirs.decode(codes))


def test_a_codebook_without_dead_codes_learns_as_upstreams_does():
    """With the default threshold, from a state in which every code is in use."""
    theirs, mine = both(threshold_ema_dead_code=2, bins=4)
    x = torch.randn(8, 16, 200)
    step(theirs, x, torch.zeros_like(x), None, 0)
    mine.load_state_dict(theirs.state_dict())
    for _ in range(3):
        x, weight = torch.randn(2, 8, 16, 200)
        assert_same(
            step(mine, x, weight, None, 0)[0],
            step(theirs, x, weight, None, 0)[0],
            rtol=1e-5,
            atol=1e-5,
        )
        assert_same_state(mine, theirs)


def test_projections_get_the_gradient_that_upstream_loses():
    theirs, mine = both(codebook_dim=8)
    x, weight = torch.randn(2, 3, 16, 40)
    step(theirs, x, weight, None, 0)
    mine.load_state_dict(theirs.state_dict())
    for quantizer in (theirs, mine):
        quantizer.zero_grad()
        step(quantizer, x, weight, None, 0)
    upstream_layer, layer = theirs.vq.layers[0], mine.vq.layers[0]
    assert upstream_layer.project_out.weight.grad is None
    # The value is W entry + b, summed over levels.
    assert layer.project_out.weight.grad.abs().sum() > 0
    torch.testing.assert_close(layer.project_out.bias.grad, weight.sum((0, 2)))
    difference = layer.project_in.weight.grad - upstream_layer.project_in.weight.grad
    assert difference.abs().max() > 1e-2


def test_commitment_survives_quantizer_dropout():
    """Upstream's two losses have opposite gradients, which cancel."""
    theirs, mine = both(quantizer_dropout=True)
    for quantizer, cancels in ((theirs, True), (mine, False)):
        x = torch.randn(3, 16, 40)
        quantizer(x, FRAME_RATE)
        x.requires_grad_()
        result = quantizer(x, FRAME_RATE)
        (result[3] + result[4]).backward()
        assert (x.grad.abs().max() < 1e-9) == cancels


def test_bandwidth_is_what_is_used():
    quantizer = ResidualVectorQuantizer(**{**SMALL, "bins": 1000, "n_q": 5})
    rate = quantizer.get_bandwidth_per_quantizer(FRAME_RATE)
    x = torch.randn(1, 16, 20)
    assert quantizer.get_num_quantizers_for_bandwidth(FRAME_RATE, 5 * rate) == 5
    assert quantizer(x, FRAME_RATE, 5 * rate).codes.shape[0] == 5
    for wanted, used in ((99.0, 5), (0.01, 1)):
        with pytest.warns(UserWarning, match="cannot be met"):
            result = quantizer(x, FRAME_RATE, wanted)
        assert len(result.codes) == used
        torch.testing.assert_close(result.bandwidth, torch.tensor(used * rate))
    assert quantizer(x[:0], FRAME_RATE, 2 * rate).bandwidth == 2 * rate
    with pytest.raises(ConfigError, match="'fast'"):
        quantizer(x, FRAME_RATE, "fast")


def test_one_code_costs_nothing():
    quantizer = ResidualVectorQuantizer(**{**SMALL, "bins": 1})
    result = quantizer(torch.randn(1, 16, 20), FRAME_RATE, 1.0)
    assert len(result.codes) == 4 and result.bandwidth == 0


def test_st_leaves_out_codes_of_the_same_chain():
    quantizer = ResidualVectorQuantizer(**SMALL)
    x = torch.randn(2, 16, 30)
    quantizer(x, FRAME_RATE)
    every = quantizer.encode(x, FRAME_RATE)
    assert torch.equal(quantizer.encode(x, FRAME_RATE, st=1), every[1:])


def test_evaluation_starts_no_codebook():
    quantizer = ResidualVectorQuantizer(**SMALL).eval()
    x = torch.randn(2, 16, 100)
    before = {name: value.clone() for name, value in quantizer.state_dict().items()}
    result = quantizer(x, FRAME_RATE)
    assert result.codes.unique().numel() > 1
    for name, value in quantizer.state_dict().items():
        assert torch.equal(value, before[name])


def test_dead_codes_come_back():
    """If a cluster of frames is replaced by a far one, its codes move there."""
    quantizer = ResidualVectorQuantizer(
        **{**SMALL, "n_q": 1, "bins": 16, "decay": 0.5, "threshold_ema_dead_code": 2}
    )
    quantizer(torch.randn(4, 16, 100) + 50, FRAME_RATE)
    x = torch.randn(4, 16, 100) - 50
    for _ in range(8):
        quantizer(x, FRAME_RATE)
    assert quantizer.encode(x, FRAME_RATE).unique().numel() > 8


def test_batches_smaller_than_the_codebook_keep_their_codes():
    """With as many frames as codes, most codes are below a threshold of 2.

    Upstream then replaces most of the codebook at every step; ours keeps what it
    has learned, so it describes fresh frames of the same clusters far better.
    """
    centres = torch.randn(64, 16) * 5
    errors = []
    for quantizer in both(threshold_ema_dead_code=2, bins=64, n_q=1):
        torch.manual_seed(0)
        for _ in range(150):
            frames = centres[torch.randint(64, (64,))] + 0.1 * torch.randn(64, 16)
            quantizer(frames.t()[None], FRAME_RATE)
        x = (centres + 0.1 * torch.randn(64, 16)).t()[None]
        quantizer.eval()
        errors.append((quantizer(x, FRAME_RATE)[0] - x).square().mean().item())
    assert errors[1] < 0.5 * errors[0]


class TestDocumentedExamples:
    """The published examples, in the closest form that can be correct.

    `sample_rate` is the frame rate; 44100 Hz and 64 kbit/s fit no codebook of
    441 kbit/s, so 1 comes back where 2 is printed; and 10 bits at 16000 Hz are
    160 kbit/s where 128 is printed ("may vary").
    """

    def test_class(self):
        rvq = ResidualVectorQuantizer(dimension=256, n_q=8, bins=1024)
        result = rvq(torch.randn(1, 256), 16000)
        assert result.quantized.shape == (1, 256)
        assert result.codes.shape == (8, 1)

    def test_decode(self):
        rvq = ResidualVectorQuantizer()
        assert rvq.decode(torch.tensor([[1, 2], [3, 4]])).shape == (2, 256)

    def test_encode(self):
        rvq = ResidualVectorQuantizer()
        with pytest.warns(UserWarning, match="cannot be met"):
            codes = rvq.encode(torch.randn(1, 256), 16000, 128)
        assert codes.shape == (1, 1)

    def test_forward(self):
        model = ResidualVectorQuantizer()
        result = model.forward(torch.randn(1, 256, 10), 16000)
        assert result.quantized.shape == (1, 256, 10)
        torch.testing.assert_close(result.bandwidth, torch.tensor(1280.0))
        assert result.penalty.shape == ()

    def test_bandwidth(self):
        rvq = ResidualVectorQuantizer()
        assert rvq.get_bandwidth_per_quantizer(sample_rate=16000) == 160
        with pytest.warns(UserWarning, match="cannot be met"):
            assert rvq.get_num_quantizers_for_bandwidth(44100, bandwidth=64) == 1
        assert rvq.get_num_quantizers_for_bandwidth(44100, bandwidth=None) == 8

    def test_named_fields_and_tuple(self):
        rvq = ResidualVectorQuantizer(**SMALL)
        quantized, codes, bandwidth, penalty = rvq(torch.randn(2, 16, 9), FRAME_RATE)
        assert QuantizedResult(quantized, codes, bandwidth).penalty is None
        dropping = ResidualVectorQuantizer(**SMALL, quantizer_dropout=True)
        result = dropping(torch.randn(2, 16, 9), FRAME_RATE)
        assert len(result) == 5
        assert torch.equal(result.quantization_loss, result.penalty)


def test_bad_input_is_refused_before_anything_changes():
    quantizer = ResidualVectorQuantizer(**SMALL)
    integers = torch.zeros(2, 16, 9).long()
    for wrong in (torch.randn(2, 15, 9), torch.randn(16), integers, [[0.0] * 16]):
        with pytest.raises(ShapeError):
            quantizer(wrong, FRAME_RATE)
    assert float(quantizer.vq.layers[0]._codebook.inited) == 0
    with pytest.raises(ShapeError, match="1 <= K <= 4"):
        quantizer.decode(torch.zeros(5, 2, 9, dtype=torch.int64))
    for wrong in ([[0]], torch.zeros(4, dtype=torch.int64)):
        with pytest.raises(ShapeError, match=r"\(n, B, T\)"):
            quantizer.decode(wrong)
    with pytest.raises(ConfigError, match="frame rate.*0"):
        quantizer(torch.randn(2, 16, 9), 0, 1.0)
    with pytest.raises(ValueError, match="-2"):
        quantizer.decode(torch.full((1, 2, 9), -2))
