"""`sb_espnet_vq.nnet.quantisers` against the installed module of SpeechBrain."""

import pytest
import torch
import torch.nn.functional as F
from speechbrain.nnet import quantisers as upstream
from torch.utils.checkpoint import checkpoint

from sb_espnet_vq import ConfigError, ShapeError
from sb_espnet_vq.nnet import quantisers as ours
from sb_espnet_vq.ops import gumbel, nearest

TEMPERATURES = (2.0, 0.25, 0.999995)


def both(name, *arguments, seed=0):
    """Build a class from each package under the same seed."""
    pair = []
    for module in (upstream, ours):
        torch.manual_seed(seed)
        pair.append(getattr(module, name)(*arguments))
    return pair


def same_state(theirs, mine):
    expected = {name: value.clone() for name, value in theirs.state_dict().items()}
    assert mine.state_dict().keys() == expected.keys()
    for name, value in mine.state_dict().items():
        assert torch.equal(value, expected[name]), name
    mine.load_state_dict(expected, strict=True)
    theirs.load_state_dict(mine.state_dict(), strict=True)


class TestRandomProjection:
    @pytest.mark.parametrize("sizes", [(16, 16, 32), (80, 8, 500), (5, 3, 1)])
    def test_seed_gives_upstreams_tables(self, sizes):
        theirs, mine = both("RandomProjectionQuantizer", *sizes)
        same_state(theirs, mine)

    @pytest.mark.parametrize("training", [True, False])
    @pytest.mark.parametrize("sizes", [(16, 16, 32), (320, 16, 512), (5, 3, 7)])
    def test_labels_equal_but_for_near_ties(self, sizes, training):
        theirs, mine = both("RandomProjectionQuantizer", *sizes)
        theirs.train(training)
        mine.train(training)
        x = torch.randn(4, 50, sizes[0]) * 7
        expected, got = theirs(x), mine(x)
        assert got.shape == expected.shape and got.dtype == torch.int64
        projected = F.normalize(x @ theirs.P, dim=2)
        distance = (projected[..., None, :] - theirs.CB).norm(dim=-1)
        chosen = distance.gather(-1, got[..., None])[..., 0]
        assert (chosen <= distance.min(-1).values + 1e-6).all()
        assert (got == expected).float().mean() > 0.99

    def test_documented_example(self):
        quantiser = ours.RandomProjectionQuantizer(16, 16, 32)
        assert quantiser(torch.rand(10, 12, 16)).shape == torch.Size([10, 12])

    def test_frame_that_is_not_finite_gets_a_label_in_range(self):
        quantiser = ours.RandomProjectionQuantizer(4, 4, 8)
        x = torch.randn(1, 3, 4)
        expected = quantiser(x)
        x[0, 1, 2] = float("nan")
        got = quantiser(x)
        assert got[0, 1] == 0
        assert torch.equal(got[0, [0, 2]], expected[0, [0, 2]])

    def test_autocast_changes_no_label(self):
        quantiser = ours.RandomProjectionQuantizer(80, 16, 512)
        x = torch.randn(2, 500, 80)
        expected = quantiser(x)
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(quantiser(x), expected)

    def test_wrong_width_is_refused(self):
        with pytest.raises(ShapeError, match=r"\(\.\.\., 16\).*\(2, 3, 15\)"):
            ours.RandomProjectionQuantizer(16, 16, 32)(torch.rand(2, 3, 15))


class TestGumbel:
    CONFIGS = [(128, 100, TEMPERATURES, 2, 50), (8, 5, (1.0, 0.5, 0.9), 1, 6)]

    @pytest.mark.parametrize("config", CONFIGS)
    def test_state_and_start_equal(self, config):
        same_state(*both("GumbelVectorQuantizer", *config))

    @pytest.mark.parametrize(
        ("training", "in_tiles"), [(True, False), (True, True), (False, False)]
    )
    @pytest.mark.parametrize("config", CONFIGS)
    def test_outputs_and_gradients_equal(self, config, training, in_tiles, monkeypatch):
        """The noise is drawn in upstream's order, so even training agrees."""
        if in_tiles:
            monkeypatch.setattr(gumbel, "_KEPT_SCORES", 0)
            monkeypatch.setattr(gumbel, "_FEWEST_ROWS", 7)
            monkeypatch.setitem(nearest._TILE_SCORES, "cpu", 1)
        results = []
        for quantiser in both("GumbelVectorQuantizer", *config):
            quantiser.train(training)
            quantiser.update_temp(3)
            torch.manual_seed(1)
            x = torch.randn(3, 40, config[0]).requires_grad_()
            weight = torch.randn(3, 40, config[-1])
            torch.manual_seed(2)
            out = quantiser(x)
            ((out["x"] * weight).sum() + 5 * out["prob_perplex"]).backward()
            results.append((out, x.grad, quantiser))
        (expected, expected_grad, theirs), (got, got_grad, mine) = results
        assert got.keys() == expected.keys()
        assert got["num_vars"] == expected["num_vars"]
        assert got["temp"] == expected["temp"]
        for name in ("x", "code_perplexity", "prob_perplex"):
            torch.testing.assert_close(got[name], expected[name], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(got_grad, expected_grad, rtol=1e-4, atol=1e-5)
        for name, parameter in theirs.named_parameters():
            if parameter.grad is not None:
                other = mine.get_parameter(name).grad
                torch.testing.assert_close(other, parameter.grad, rtol=1e-4, atol=1e-4)

    def test_parameters_come_in_upstreams_order(self):
        """Optimizers store their state by it."""
        pair = both("GumbelVectorQuantizer", 8, 5, (2.0, 0.5, 0.9), 2, 6)
        theirs, mine = ([p.shape for p in q.parameters()] for q in pair)
        assert mine == theirs

    def test_two_forwards_under_reentrant_checkpointing(self):
        """There is no buffer that a recomputed forward would update twice."""
        quantiser = ours.GumbelVectorQuantizer(8, 5, (2.0, 0.5, 0.9), 2, 6)
        results = []
        for checkpointed in (True, False):
            torch.manual_seed(0)
            x = torch.randn(2, 3, 10, 8, requires_grad=True)
            values = [
                checkpoint(lambda part: quantiser(part)["x"], part, use_reentrant=True)
                if checkpointed
                else quantiser(part)["x"]
                for part in x
            ]
            torch.cat(values).square().sum().backward()
            results.append(x.grad)
        torch.testing.assert_close(*results)

    def test_documented_example(self):
        quantiser = ours.GumbelVectorQuantizer(128, 100, TEMPERATURES, 2, 50)
        output = quantiser(torch.rand(10, 12, 128))
        assert output["x"].shape == torch.Size([10, 12, 50])

    def test_temperature_follows_steps(self):
        theirs, mine = both("GumbelVectorQuantizer", 8, 4, (2.0, 0.5, 0.9), 2, 8)
        for step in (0, 1, 7, 1000):
            theirs.update_temp(step)
            mine.update_temp(step)
            assert mine.curr_temp == theirs.curr_temp
        mine(torch.randn(1, 5, 8))
        assert mine.curr_temp == theirs.curr_temp

    def test_padding_counts_nowhere(self):
        quantiser = ours.GumbelVectorQuantizer(8, 10, TEMPERATURES, 2, 8).eval()
        x = torch.randn(1, 40, 8)
        padded = torch.cat([x, torch.zeros(1, 200, 8)], 1)
        mask = torch.arange(240)[None] < 40
        expected, got = quantiser(x), quantiser(padded, mask=mask)
        for name in ("code_perplexity", "prob_perplex"):
            torch.testing.assert_close(got[name], expected[name])
        assert quantiser(padded)["code_perplexity"] < expected["code_perplexity"] - 1

    def test_it_serves_wav2vec2_in_upstreams_lobe(self):
        from speechbrain.lobes.models.wav2vec import W2VTargetQuantiser

        target = W2VTargetQuantiser(
            in_dim=16, out_dim=8, quantiser=ours.GumbelVectorQuantizer, num_vars=10
        )
        quantised, meta = target(torch.randn(2, 30, 16))
        assert quantised.shape == (2, 30, 8)
        assert {"diversity_loss", "code_perplex"} <= meta.keys(), sorted(meta)

    def test_an_output_width_that_is_no_size_is_refused(self):
        for width in (0, 8.0):
            with pytest.raises(ConfigError, match="vq_dim"):
                ours.GumbelVectorQuantizer(8, 4, TEMPERATURES, 2, width)

    def test_groups_that_do_not_divide_are_refused(self):
        with pytest.raises(ConfigError, match="51 and 2"):
            ours.GumbelVectorQuantizer(8, 4, TEMPERATURES, 2, 51)


class TestVectorQuantizer:
    """Against the published formula, written out."""

    def reference(self, weight, z, temp):
        flat = z.reshape(-1, z.shape[-1])
        distance = (flat[:, None] - weight).square().sum(-1)
        indices = distance.argmin(1)
        usage = torch.softmax(-distance / temp, 1).mean(0)
        entropy_loss = (usage * (usage + 1e-10).log()).sum()
        chosen = weight[indices].view_as(z)
        commit = (z - chosen.detach()).square().mean()
        return chosen, indices.view(z.shape[:-1]), commit, entropy_loss

    @pytest.mark.parametrize("temp", [1.0, 0.1, 10.0])
    def test_values_and_gradients(self, temp):
        torch.manual_seed(0)
        quantizer = ours.VectorQuantizer(12, 6, temp)
        weight = torch.randn(12, 6, requires_grad=True)
        quantizer.codebook.weight.data.copy_(weight.detach())
        z = torch.randn(3, 20, 6, requires_grad=True)
        expected = self.reference(weight, z, temp)
        (2 * expected[2] + 3 * expected[3]).backward()
        expected_grad, z.grad = z.grad, None
        got = quantizer(z)
        (2 * got[2] + 3 * got[3]).backward()
        assert torch.equal(got[0], expected[0].detach())
        assert torch.equal(got[1], expected[1])
        torch.testing.assert_close(got[2], expected[2])
        torch.testing.assert_close(got[3], expected[3])
        torch.testing.assert_close(z.grad, expected_grad, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(
            quantizer.codebook.weight.grad, weight.grad, rtol=1e-4, atol=1e-6
        )

    def test_only_the_entropy_reaches_the_codebook(self):
        quantizer = ours.VectorQuantizer(12, 6)
        z_q, _, commit, entropy = quantizer(torch.randn(3, 20, 6, requires_grad=True))
        (z_q.sum() + commit).backward(retain_graph=True)
        assert quantizer.codebook.weight.grad is None
        entropy.backward()
        assert quantizer.codebook.weight.grad.abs().sum() > 0

    def test_a_frame_that_is_not_finite_shows_in_both_losses(self):
        z = torch.randn(1, 5, 6)
        z[0, 2, 0] = float("nan")
        z_q, indices, commit, entropy = ours.VectorQuantizer(12, 6)(z)
        assert indices[0, 2] == -1 and z_q[0, 2].isnan().all()
        assert commit.isnan() and entropy.isnan()

    def test_start_and_keys(self):
        torch.manual_seed(0)
        expected = torch.nn.Embedding(10, 4)
        torch.nn.init.uniform_(expected.weight, -0.1, 0.1)
        torch.manual_seed(0)
        quantizer = ours.VectorQuantizer(K=10, d_z=4)
        assert list(quantizer.state_dict()) == ["codebook.weight"]
        assert torch.equal(quantizer.codebook.weight, expected.weight)
