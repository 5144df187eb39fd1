"""`ContrastiveQuantizer`."""

import io

import pytest
import torch
from hyperpyyaml import load_hyperpyyaml
from uses import batch, load

from sb_espnet_vq import build, list_quantizers
from sb_espnet_vq.lobes.quantizers import ContrastiveQuantizer, contrastive
from sb_espnet_vq.nnet.quantisers import GumbelVectorQuantizer
from sb_espnet_vq.quantizers.precision import project

SEVERAL = (
    "gumbel",
    "rvq",
    "random_projection",
    "residual",
    "grouped",
    "split",
    "warm_start",
)
WITH_USAGE = ["bsq", "entropy_vq", "gumbel", "lfq"]
W2V = """
target_quantiser: !new:speechbrain.lobes.models.wav2vec.W2VTargetQuantiser
    in_dim: 8
    out_dim: 6
    quantiser: !name:sb_espnet_vq.lobes.quantizers.ContrastiveQuantizer
        quantizer: {quantizer_name}
    num_vars: 16
    temperature_decay: (2.0, 0.25, 0.99)
"""


@pytest.mark.parametrize("width", [6, 8])
@pytest.mark.parametrize("training", [True, False])
def test_default_is_the_drop_in(training, width):
    arguments = 8, 16, (2.0, 0.5, 0.99), 2, width
    outs, states = [], []
    for kind in (GumbelVectorQuantizer, ContrastiveQuantizer):
        torch.manual_seed(7)
        module = kind(*arguments).train(training)
        module.update_temp(10)
        outs.append(module(batch()))
        states.append(module.state_dict())
    # Two more keys than upstream, whose wrapper ignores unknown keys.
    assert 0 < outs[1].pop("used_codes") <= 32
    assert outs[1].pop("codes").shape == (4, 40, 2)
    assert outs[0].keys() == outs[1].keys()
    torch.testing.assert_close(outs[1], outs[0], rtol=0, atol=0)
    assert outs[1]["temp"] == pytest.approx(2 * 0.99**10)
    assert list(states[1]) == list(states[0])


@pytest.mark.parametrize("quantizer_name", list_quantizers())
def test_speechbrains_wrapper_takes_every_quantizer(quantizer_name):
    yaml = W2V.format(quantizer_name=quantizer_name)
    target = load_hyperpyyaml(io.StringIO(yaml))["target_quantiser"]
    targets, meta = target(batch())
    target.quantiser.update_temp(3)
    assert targets.shape == (4, 40, 6)
    several = quantizer_name in SEVERAL
    assert meta["num_vars"] == (32 if several else 16)
    assert 0 < float(meta["code_perplex"]) <= meta["num_vars"]
    assert 0 <= float(meta["diversity_loss"].detach()) < 1


@pytest.mark.parametrize("quantizer_name", list_quantizers())
def test_diversity_has_a_gradient_where_the_quantizer_has_probabilities(quantizer_name):
    module, x = load("contrastive", quantizer_name).train(), batch().requires_grad_()
    out = module(x)
    assert out["prob_perplex"].requires_grad == (quantizer_name in WITH_USAGE)
    if quantizer_name not in WITH_USAGE:
        assert torch.equal(out["prob_perplex"], out["code_perplexity"])
        return
    out["prob_perplex"].backward()
    assert float(x.grad.abs().sum()) > 0


@pytest.mark.parametrize("quantizer_name", ["entropy_vq", "bsq", "lfq"])
def test_mean_probabilities_are_those_of_the_sampling(quantizer_name):
    # Small frames: a uniform soft assignment, but few used codes.
    module = load("contrastive", quantizer_name).train()
    x = torch.zeros(4, 40, 8, requires_grad=True)
    out = module(x + 0.02 * batch()[:1, :1])
    assert float(out["code_perplexity"]) == pytest.approx(1)
    assert float(out["prob_perplex"].detach()) == pytest.approx(1, abs=1e-4)
    assert out["prob_perplex"].requires_grad
    out = module(batch())
    expected = float(out["code_perplexity"])
    assert float(out["prob_perplex"].detach()) == pytest.approx(expected, rel=1e-3)


def test_a_diversity_loss_brings_idle_codes_into_use():
    module = load("contrastive", "entropy_vq", "{codebook_weight: 0}").train()
    optimizer = torch.optim.Adam(module.parameters(), lr=0.003)
    used = []
    for _ in range(100):
        out = module(batch())
        optimizer.zero_grad()
        diversity = -out["prob_perplex"] / out["num_vars"]
        # The sum brings in the quantizer's own loss, as any loss of the output does.
        (0.1 * diversity + out["x"].sum() * 0).backward()
        optimizer.step()
        used.append(float(out["code_perplexity"]))
    # With a uniform soft assignment alone, eight of the sixteen would suffice.
    assert used[0] < 2 and sum(used[-5:]) > 5 * 12, used


def test_usage_of_entropy_vq_is_the_mean_soft_assignment():
    q, x = build("entropy_vq", dim=8, codebook_size=16), batch()
    mask = torch.rand(4, 40) > 0.3
    out, usage = q.forward_with_usage(x, mask=mask)
    distance = (x[mask][:, None] - q.codebook.weight).square().sum(-1)
    expected = (-distance).softmax(1).mean(0)[None]
    torch.testing.assert_close(usage, expected)
    assert torch.equal(out.loss, q(x, mask=mask).loss)


def test_usage_of_bsq_is_the_mean_probability_of_each_pattern():
    q, x = build("bsq", dim=4, inv_temperature=1.5), batch()[..., :4]
    _, usage = q.forward_with_usage(x)
    every = q.decode(torch.arange(16)[:, None])
    sphere = torch.nn.functional.normalize(x.flatten(0, 1), dim=1)
    expected = (2 * 1.5 * sphere @ every.t()).softmax(1).mean(0)[None]
    torch.testing.assert_close(usage, expected)


def test_bsq_gives_probabilities_only_where_it_has_it():
    q = build("bsq", dim=4, entropy_weight=0.0)
    assert not q.gives_probabilities
    assert q.forward_with_usage(batch()[..., :4])[1] is None


def test_perplexities_are_summed_over_codebooks():
    module = load("contrastive", "rvq", "{n_codebooks: 3}").eval()
    out, codes = module(batch()), module.quantizer.encode(batch())
    share = torch.stack(
        [torch.bincount(c, minlength=16) for c in codes.flatten(0, 1).t()]
    )
    share = share / share.sum(1, keepdim=True)
    expected = torch.special.entr(share).sum(1).exp().sum()
    torch.testing.assert_close(out["code_perplexity"], expected)
    assert out["num_vars"] == 48


@pytest.mark.parametrize("quantizer_name", list_quantizers())
def test_used_codes_are_those_of_the_frames(quantizer_name):
    module, x = load("contrastive", quantizer_name).eval(), batch()
    mask = torch.arange(40)[None].expand(4, -1) < 3
    every = module.quantizer.encode(x)
    for padding, codes in ((None, every.flatten(0, 1)), (mask, every[mask])):
        taken = sum(len(column.unique()) for column in codes.t())
        assert float(module(x, mask=padding)["used_codes"]) == taken


@pytest.mark.parametrize("quantizer_name", list_quantizers())
def test_codes_are_those_of_encode(quantizer_name):
    module, x = load("contrastive", quantizer_name).eval(), batch()
    mask = torch.arange(40)[None].expand(4, -1) < 3
    expected = module.quantizer.encode(x, mask=mask)
    assert torch.equal(module(x, mask=mask)["codes"], expected)
    assert (expected[:, 3:] == -1).all()


def test_in_training_codes_are_the_most_likely_not_the_sampled():
    module, x = load("contrastive", "gumbel").train(), batch()
    assert torch.equal(module(x)["codes"], module.quantizer.encode(x))


def test_padding_changes_no_figure():
    for quantizer_name in list_quantizers():
        module, x = load("contrastive", quantizer_name).eval(), batch()
        mask = torch.ones(4, 40, dtype=torch.bool)
        mask[1, 20:] = False
        first = module(x, mask=mask)
        x[1, 20:] = 1e4
        second = module(x, mask=mask)
        torch.testing.assert_close(second, first, rtol=0, atol=0)
        assert (second["x"][1, 20:] == 0).all()


def test_the_quantizers_loss_is_attached_to_the_output():
    module, x = load("contrastive", "entropy_vq").train(), batch()
    (module(x)["x"].sum() * 0).backward()
    given = module.quantizer.codebook.weight.grad.clone()
    module.zero_grad()
    module.quantizer(x).loss.backward()
    assert torch.equal(given, module.quantizer.codebook.weight.grad)
    assert float(given.abs().sum()) > 0


def test_temperature_is_saved():
    module, fresh = load("contrastive"), load("contrastive", seed=1)
    module.update_temp(40)
    fresh.load_state_dict(module.state_dict())
    assert fresh(batch())["temp"] == module(batch())["temp"] < 2


def test_conf_wins_and_choices_without_temperature_report_zero():
    module = load("contrastive", "gumbel", "{codebook_size: 8, temperature: [1, 1, 1]}")
    out = module(batch())
    assert out["num_vars"] == 16 and out["temp"] == 1
    assert load("contrastive", "vq")(batch())["temp"] == 0


def test_the_layer_behind_keeps_float32_under_autocast(monkeypatch):
    module = load("contrastive", "vq").eval()
    expected = module(batch())["x"]
    seen = []

    def look(*arguments):
        seen.append(torch.is_autocast_enabled("cpu"))
        return project(*arguments)

    monkeypatch.setattr(contrastive, "project", look)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(module(batch())["x"], expected)
    assert seen == [False]
