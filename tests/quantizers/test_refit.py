"""Refit of codebooks, and replaced codebook vectors."""

import pytest
import torch
from random_frames import normal

from sb_espnet_vq import ConfigError, ShapeError, build
from sb_espnet_vq.quantizers.refit import refit


def trained(**options):
    torch.manual_seed(0)
    q = build("rvq", **{"dim": 6, "codebook_size": 16, "n_codebooks": 4, **options})
    for step in range(5):
        q(normal(1, 400, 6, seed=step))
    return q.eval()


def error(q, x, **options):
    return float((q.decode(q.encode(x, **options)) - x).square().sum())


@pytest.mark.parametrize("beam", [1, 6])
def test_errors_decrease_and_are_those_that_remain(beam):
    q, x = trained(), normal(1000, 6, seed=9)
    before = error(q, x, beam=beam)
    errors = refit(q, [x[:300], x[300:]], beam=beam)
    assert errors[0] == 1 and min(errors) < 0.97
    torch.testing.assert_close(error(q, x, beam=beam) / before, min(errors))
    # Frames that the refit did not see.
    other = normal(1000, 6, seed=10)
    assert error(q, other, beam=beam) < error(trained(), other, beam=beam)


def test_every_number_of_codebooks_in_use_counts():
    x = normal(1000, 6, seed=9)
    uses = (1, 2, 4)
    before = [error(trained(), x, n_codebooks=n) for n in uses]
    only_all, every = trained(), trained()
    refit(only_all, [x])
    refit(every, [x], uses=uses)
    ratios = [
        [error(q, x, n_codebooks=n) / b for n, b in zip(uses, before, strict=True)]
        for q in (only_all, every)
    ]
    assert sum(ratios[1]) / 3 < 1
    # What is gained with few codebooks is paid by all together.
    assert ratios[1][0] < ratios[0][0] and ratios[1][2] > ratios[0][2]


def test_training_continues_from_replaced_vectors():
    q = trained(threshold_ema_dead_code=0)
    vectors = q.codebook_vectors() + 0.5
    q.set_codebook_vectors(vectors)
    assert torch.equal(q.codebook_vectors(), vectors)
    q.train()(normal(1, 400, 6, seed=20))
    # The averages would take them back by 0.5.
    moved = (q.codebook_vectors() - vectors).abs().mean()
    assert 0 < moved < 0.1
    # A codebook that is not yet initialized counts as initialized.
    fresh = build("rvq", dim=6, codebook_size=16, n_codebooks=4, decay=1.0)
    fresh.set_codebook_vectors(vectors)
    fresh(normal(1, 400, 6))
    torch.testing.assert_close(fresh.codebook_vectors(), vectors)


def test_vectors_that_cannot_be_set_change_nothing():
    q = trained()
    before = q.codebook_vectors()
    for wrong in (before[0], before.long(), before * torch.nan, "vectors"):
        with pytest.raises(ShapeError, match="RVQ: vectors must be"):
            q.set_codebook_vectors(wrong)
    assert torch.equal(q.codebook_vectors(), before)
    for other in (trained(code_dim=3), build("bsq", dim=6, codebook_size=16)):
        with pytest.raises(ConfigError, match="cannot be replaced"):
            refit(other, [normal(20, 6)])
