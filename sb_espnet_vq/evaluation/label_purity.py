"""Agreement of codes with the labels of utterances.

Label purity, code purity and normalized mutual information (Hsu et al. 2021,
https://arxiv.org/abs/2106.07447, section IV-C, there of phones), with the label of the
utterance for each of its frames.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sb_espnet_vq.evaluation.tables import text_table

# Permutations of the labels whose mean is the baseline.
SHUFFLES = 10


class Agreement(NamedTuple):
    """Agreement of codes with labels, each in [0, 1]; a mean over codebooks.

    label_purity : accuracy of naming the most frequent label of each code.
    code_purity : accuracy of naming the most frequent code of each label.
    pnmi : mutual information by the entropy of the labels.
    nmi : mutual information by the mean of the entropies of labels and of codes.
    """

    label_purity: float
    code_purity: float
    pnmi: float
    nmi: float


def agreement(labels: Tensor, codes: Tensor) -> Agreement:
    """Compare codes with labels.

    Arguments
    ---------
    labels : torch.Tensor
        (N,) int64, the label of each frame.
    codes : torch.Tensor
        (N, K) int64, the codes of each frame; frames with a negative code are not
        counted in that codebook.

    Returns
    -------
    Agreement

    Raises
    ------
    ValueError
        If the shapes do not match, or the frames of a codebook have fewer than two
        labels.

    Example
    -------
    >>> labels = torch.tensor([0, 0, 1, 1])
    >>> agreement(labels, torch.tensor([[5], [6], [7], [7]]))
    Agreement(label_purity=1.0, code_purity=0.75, pnmi=1.0, nmi=0.8)
    """
    if codes.dim() != 2 or labels.shape != codes.shape[:1]:
        raise ValueError(
            "expected labels (N,) and codes (N, K), got "
            f"{tuple(labels.shape)} and {tuple(codes.shape)}"
        )
    rows = [_of_codebook(labels, column) for column in codes.T]
    each = torch.tensor(rows, dtype=torch.float64)
    return Agreement(*each.mean(0).tolist())


def compare_with_shuffled(
    labels: Sequence[str], codes: Sequence[Tensor]
) -> dict[str, Any]:
    """Compare codes with the labels of utterances, and with the same labels shuffled.

    Purity grows with the number of codes, so that it means little without a baseline.
    The labels are permuted over utterances, since the frames of an utterance are alike.

    Arguments
    ---------
    labels : Sequence[str]
        The label of each utterance.
    codes : Sequence[torch.Tensor]
        The codes (T, K) int64 of each utterance.

    Returns
    -------
    dict
        The fields of `Agreement`; `shuffled`, the same for shuffled labels, a mean over
        permutations; `most_frequent_label`, its share of the frames; `frames`.

    Raises
    ------
    ValueError
        As `agreement`.

    Example
    -------
    >>> codes = [torch.tensor([[0], [0]]), torch.tensor([[1]]), torch.tensor([[1]])]
    >>> result = compare_with_shuffled(["a", "b", "b"], codes)
    >>> result["label_purity"], round(result["shuffled"]["label_purity"], 3)
    (1.0, 0.8)
    """
    names = sorted(set(labels))
    numbers = torch.tensor([names.index(label) for label in labels])
    lengths = torch.tensor([len(each) for each in codes])
    together = torch.cat(list(codes))
    generator = torch.Generator().manual_seed(0)
    orders = [torch.randperm(len(labels), generator=generator) for _ in range(SHUFFLES)]
    of_frames = numbers.repeat_interleave(lengths)
    shuffled = torch.tensor(
        [agreement(numbers[o].repeat_interleave(lengths), together) for o in orders],
        dtype=torch.float64,
    )
    return agreement(of_frames, together)._asdict() | {
        "shuffled": Agreement(*shuffled.mean(0).tolist())._asdict(),
        "most_frequent_label": float(of_frames.bincount().max() / len(of_frames)),
        "frames": len(of_frames),
    }


def purity_table(results: Mapping[str, Any]) -> str:
    """Format the agreement of codes with labels as a table.

    Arguments
    ---------
    results : dict
        `rows`, results of `compare_with_shuffled` by the name of the codes; `classes`,
        the labels; `utterances`, their number.

    Returns
    -------
    str
    """
    rows: list[Sequence[object]] = []
    for name, row in results["rows"].items():
        values = {name: row, f"{name}, labels shuffled": row["shuffled"]}
        rows += [
            (shown, *(each[field] for field in Agreement._fields))
            for shown, each in values.items()
        ]
    share = max(row["most_frequent_label"] for row in results["rows"].values())
    rows.append(("the most frequent label", share, "", 0.0, 0.0))
    header = ("codes and labels", "label purity", "code purity", "PNMI", "NMI")
    frames = next(iter(results["rows"].values()))["frames"]
    note = (
        f"{frames} frames of {results['utterances']} test utterances with "
        f"{len(results['classes'])} labels; a frame has the label of its utterance.\n"
        "Label purity grows with the number of codes: read it beside that of shuffled "
        "labels."
    )
    return f"{text_table(rows, header)}\n{note}"


def _of_codebook(labels: Tensor, codes: Tensor) -> Agreement:
    """Compare the codes (N,) of one codebook with labels (N,)."""
    counted = codes >= 0
    label_names, y = labels[counted].unique(return_inverse=True)
    code_names, z = codes[counted].unique(return_inverse=True)
    if len(label_names) < 2:
        raise ValueError(
            f"expected frames of at least two labels, got {len(label_names)}"
        )
    # Sparse: a table of all pairs would be large for many labels and codes.
    pairs, counts = (y * len(code_names) + z).unique(return_counts=True)
    y, z = pairs // len(code_names), pairs % len(code_names)
    joint = counts.double() / counts.sum()
    of_labels = joint.new_zeros(len(label_names))
    of_codes = joint.new_zeros(len(code_names))
    p_label, p_code = of_labels.index_add(0, y, joint), of_codes.index_add(0, z, joint)
    information = float((joint * (joint / p_label[y] / p_code[z]).log()).sum())
    entropies = [float(torch.special.entr(p).sum()) for p in (p_label, p_code)]
    return Agreement(
        float(of_codes.scatter_reduce(0, z, joint, "amax").sum()),
        float(of_labels.scatter_reduce(0, y, joint, "amax").sum()),
        information / entropies[0],
        2 * information / sum(entropies),
    )
