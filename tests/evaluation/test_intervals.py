"""Bootstrap intervals against what is known of the mean of normal numbers."""

import pytest
import torch

from sb_espnet_vq.evaluation.intervals import bootstrap, summarize


def test_the_interval_is_that_of_the_mean_of_normal_numbers():
    values = torch.randn(400, generator=torch.Generator().manual_seed(0)) * 2 + 5
    low, high = bootstrap(values.tolist())
    mean, error = float(values.mean()), float(values.std()) / 20
    assert low == pytest.approx(mean - 1.96 * error, abs=0.15 * error)
    assert high == pytest.approx(mean + 1.96 * error, abs=0.15 * error)
    assert bootstrap(values.tolist()) == [low, high]
    assert bootstrap(values.tolist(), seed=1) != [low, high]


def test_a_ratio_is_that_of_the_sums():
    edits, words = [0.0, 10.0] * 50, [1.0, 10.0] * 50
    low, high = bootstrap(edits, words)
    # The mean of the ratios would be 0.5, the ratio of the sums is 10 / 11.
    assert 0.8 < low < 10 / 11 < high < 1
    # Without words there is no ratio.
    assert bootstrap([0.0, 1.0], [0.0, 2.0]) == [0.5, 0.5]


def test_undefined_values_are_left_out_and_counted():
    rows = [{"a": 1.0, "b": None}, {"a": None, "b": None}, {"a": 3.0, "b": None}]
    summary = summarize(rows)
    assert summary.means == {"a": 2.0, "b": None}
    assert summary.counts == {"a": 2, "b": 0}
    assert summary.intervals == {"a": [1.0, 3.0], "b": None}


def test_resamples_without_weight_are_left_out():
    low, high = bootstrap([1.0, 0.0], [0.0, 3.0])
    assert 0 <= low <= high <= 1
