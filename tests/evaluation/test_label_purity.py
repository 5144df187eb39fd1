"""Label purity, code purity and mutual information of codes and labels."""

import pytest
import torch

from sb_espnet_vq.evaluation.label_purity import (
    agreement,
    compare_with_shuffled,
    purity_table,
)


@pytest.fixture
def draw():
    """Random labels (N,), and codes (N, 3) that depend on them."""
    labels = torch.randint(7, (500,))
    codes = (torch.randint(40, (500, 3)) + 3 * labels[:, None]) // torch.tensor(
        [1, 5, 50]
    )
    return labels, codes


def test_mutual_information_is_that_of_scikit_learn(draw):
    metrics = pytest.importorskip("sklearn.metrics")
    labels, codes = draw
    for column in codes.T:
        found = agreement(labels, column[:, None])
        pair = labels.numpy(), column.numpy()
        nmi = metrics.normalized_mutual_info_score(*pair, average_method="arithmetic")
        assert found.nmi == pytest.approx(nmi)
        # Homogeneity is the mutual information by the entropy of the labels.
        assert found.pnmi == pytest.approx(metrics.homogeneity_score(*pair))
        table = torch.tensor(metrics.cluster.contingency_matrix(*pair))
        assert found.label_purity == pytest.approx(table.amax(0).sum().item() / 500)
        assert found.code_purity == pytest.approx(table.amax(1).sum().item() / 500)


def test_several_codebooks_are_averaged(draw):
    labels, codes = draw
    each = torch.tensor([agreement(labels, column[:, None]) for column in codes.T])
    assert agreement(labels, codes) == pytest.approx(each.mean(0).tolist())
    assert each.std(0).min() > 0.01


def test_frames_without_a_code_are_not_counted(draw):
    labels, codes = draw
    broken = torch.full((20, 3), -1)
    more = torch.cat([labels, torch.randint(7, (20,))]), torch.cat([codes, broken])
    assert agreement(*more) == agreement(labels, codes)


def test_codes_without_a_relation_to_labels_are_no_better_than_shuffled_ones():
    labels = [f"label {n % 3}" for n in range(60)]
    codes = [torch.randint(100, (20, 1)) for _ in labels]
    result = compare_with_shuffled(labels, codes)
    # Above the share of the most frequent label, only for the many codes.
    assert result["label_purity"] > result["most_frequent_label"] + 0.05
    assert result["label_purity"] == pytest.approx(
        result["shuffled"]["label_purity"], abs=0.03
    )
    same = [torch.full((20, 1), n % 3) for n in range(60)]
    assert compare_with_shuffled(labels, same)["nmi"] == 1.0


def test_labels_are_shuffled_by_utterance():
    """Codes that identify the utterance agree with labels in any order."""
    codes = [torch.full((10, 1), n) for n in range(20)]
    result = compare_with_shuffled(["a", "b"] * 10, codes)
    assert result["shuffled"]["label_purity"] == pytest.approx(1.0)


def test_one_label_and_unequal_lengths_are_refused():
    with pytest.raises(ValueError, match="at least two labels, got 1"):
        agreement(torch.zeros(5, dtype=torch.int64), torch.zeros(5, 1).long())
    with pytest.raises(ValueError, match=r"got \(4,\) and \(5, 1\)"):
        agreement(torch.arange(4), torch.zeros(5, 1).long())


def test_the_table_shows_the_baselines():
    row = compare_with_shuffled(
        ["a", "b", "b"], [torch.tensor([[n]]) for n in range(3)]
    )
    text = purity_table({"rows": {"codes": row}, "classes": "ab", "utterances": 3})
    first, shuffled, share = (line.split() for line in text.splitlines()[2:5])
    assert (
        first[:2] == ["codes", "1.000"]
        and shuffled[:3] == "codes, labels shuffled".split()
    )
    assert share[-3:] == ["0.667", "0.000", "0.000"]
