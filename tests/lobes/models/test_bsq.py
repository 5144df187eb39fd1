"""`sb_espnet_vq.lobes.models.bsq` against the installed `speechbrain` module."""

import pytest
import torch
from speechbrain.lobes.models.bsq import BinarySphericalQuantizer as Upstream

from sb_espnet_vq import ConfigError, ShapeError
from sb_espnet_vq.lobes.models.bsq import BinarySphericalQuantizer

CONFIGS = [(13, 0.1, 1.0), (5, 1.0, 0.3), (1, 0.5, 2.0), (6, 0.0, 1.0)]


@pytest.mark.parametrize("config", CONFIGS)
def test_state_loads_both_ways(config):
    theirs, mine = Upstream(*config), BinarySphericalQuantizer(*config)
    mine.load_state_dict(theirs.state_dict(), strict=True)
    theirs.load_state_dict(mine.state_dict(), strict=True)
    assert list(mine.state_dict()) == ["mask"]
    assert torch.equal(mine.mask, theirs.mask)
    assert torch.equal(mine.codebook, theirs.codebook)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("inv_temperature", [100.0, 1.0])
@pytest.mark.parametrize("config", CONFIGS)
def test_outputs_and_gradients_equal(config, inv_temperature, training):
    torch.manual_seed(0)
    x = torch.randn(2, 50, config[0])
    weight = torch.randn_like(x)
    results = []
    for cls in (Upstream, BinarySphericalQuantizer):
        quantizer = cls(*config).train(training)
        leaf = x.clone().requires_grad_()
        quantized, indices, aux = quantizer(leaf, inv_temperature)
        ((quantized * weight).sum() + aux).backward()
        results.append((quantized, indices, aux, leaf.grad))
    expected, got = results
    torch.testing.assert_close(got[0], expected[0], rtol=1e-5, atol=1e-6)
    assert torch.equal(got[1], expected[1])
    torch.testing.assert_close(got[2], expected[2], rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(got[3], expected[3], rtol=1e-3, atol=1e-3)


def test_zero_counts_as_negative():
    x = torch.tensor([[[0.0, 0.0, 0.0], [0.0, 1.0, -1.0]]])
    for cls in (Upstream, BinarySphericalQuantizer):
        assert cls(3)(x)[1].tolist() == [[0, 2]]


def test_a_frame_of_zeros_has_a_moderate_gradient():
    gradients = []
    for cls in (Upstream, BinarySphericalQuantizer):
        x = torch.zeros(1, 2, 3, requires_grad=True)
        cls(3)(x)[0].sum().backward()
        gradients.append(x.grad.abs().max())
    assert gradients[0] > 1e11 and gradients[1] == 1


def test_entropy_loss_is_exact_where_upstream_clamps():
    """Against the entropies written out over all codes, in float64."""
    torch.manual_seed(0)
    quantizer = BinarySphericalQuantizer(7)
    x = torch.randn(3, 20, 7, dtype=torch.float64)
    u = torch.nn.functional.normalize(x, dim=-1).view(-1, 7)
    codes = quantizer.codebook.double() / 7**0.5
    probs = (200 * u @ codes.t()).softmax(1)
    mean = probs.mean(0)
    of_frames = torch.special.entr(probs).sum(1).mean()
    expected = 0.1 * (of_frames - torch.special.entr(mean).sum())
    assert abs(quantizer(x)[2].item() - expected.item()) < 1e-6


def test_documented_example():
    quantizer = BinarySphericalQuantizer(13)
    quant, indices, aux_loss = quantizer(torch.randn(2, 50, 13))
    assert quant.shape == (2, 50, 13) and indices.shape == (2, 50)
    assert aux_loss.shape == ()
    bits = torch.tensor([[0, 1], [1, 1]])
    assert quantizer.bits_to_codes(bits).tolist() == [[-1, 1], [1, 1]]


def test_two_and_four_axes_give_the_loss_of_three():
    """Upstream averages over the wrong axes there."""
    quantizer = BinarySphericalQuantizer(5)
    x = torch.randn(2, 12, 5)
    expected = quantizer(x)[2]
    for shape in ((24, 5), (2, 3, 4, 5)):
        quantized, indices, aux = quantizer(x.view(shape))
        assert quantized.shape == shape and indices.shape == shape[:-1]
        torch.testing.assert_close(aux, expected)
    wrong = Upstream(5)(x.view(2, 3, 4, 5))[2]
    assert wrong.shape != expected.shape


def test_padding_counts_nowhere():
    quantizer = BinarySphericalQuantizer(5)
    x = torch.randn(1, 12, 5)
    padded = torch.cat([x, torch.zeros(1, 30, 5)], 1)
    mask = torch.arange(42)[None] < 12
    torch.testing.assert_close(quantizer(padded, mask=mask)[2], quantizer(x)[2])
    assert (quantizer(padded)[2] - quantizer(x)[2]).abs() > 1e-3


def test_bfloat16_input_works():
    quantizer = BinarySphericalQuantizer(5)
    x = torch.randn(2, 12, 5).bfloat16()
    quantized, indices, aux = quantizer(x)
    assert quantized.dtype == torch.bfloat16 and aux.dtype == torch.float32
    assert torch.equal(indices, quantizer(x.float())[1])


def test_codes_decode():
    quantizer = BinarySphericalQuantizer(5).eval()
    quantized, indices, _ = quantizer(torch.randn(2, 12, 5))
    assert torch.equal(quantizer.decode(indices[..., None]), quantized)


def test_bad_input_is_refused():
    with pytest.raises(ShapeError, match=r"\(\.\.\., 5\).*\(2, 6\)"):
        BinarySphericalQuantizer(5)(torch.zeros(2, 6))
    with pytest.raises(ConfigError, match="entropy_weight must be 0 above"):
        BinarySphericalQuantizer(25)
