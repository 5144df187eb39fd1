"""Linear probes of frozen representations.

A probe is multinomial logistic regression on standardized features, fitted to its
optimum. Cross-validation on the labelled examples chooses its L2 penalty, so that each
representation is evaluated with its own best penalty, chosen without test examples.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F

PENALTIES = (1e-3, 1e-2, 1e-1, 1.0)


def probe_accuracy(
    train_x: torch.Tensor,
    train_y: torch.Tensor,
    test_x: torch.Tensor,
    test_y: torch.Tensor,
    penalties: Sequence[float] = PENALTIES,
    folds: int = 3,
) -> float:
    """Fit a probe on labelled examples and return its accuracy on test examples.

    The penalty is chosen by cross-validation on contiguous folds of the labelled
    examples; the final fit uses all of them.

    Arguments
    ---------
    train_x : torch.Tensor
        (N, D) features of the labelled examples.
    train_y : torch.Tensor
        (N,) int64 classes, from 0.
    test_x : torch.Tensor
        (M, D) features.
    test_y : torch.Tensor
        (M,) int64 classes.
    penalties : Sequence[float]
        L2 penalties to choose from.
    folds : int
        Number of folds of the cross-validation.

    Returns
    -------
    float
        Fraction of test examples that are classified correctly.

    Raises
    ------
    ValueError
        If shapes do not match, or there are fewer than two examples per fold.

    Example
    -------
    >>> x = torch.tensor([[-1.0], [1.0]]).repeat(10, 1)
    >>> y = torch.tensor([0, 1]).repeat(10)
    >>> probe_accuracy(x, y, x, y)
    1.0
    """
    _check(train_x, train_y, "train")
    _check(test_x, test_y, "test")
    if train_x.shape[1] != test_x.shape[1]:
        raise ValueError(
            f"train features have {train_x.shape[1]} dimensions, but test features "
            f"{test_x.shape[1]}"
        )
    if len(train_x) < 2 * folds:
        raise ValueError(
            f"{len(train_x)} labelled examples are too few: a probe with {folds} folds "
            f"needs at least {2 * folds}"
        )
    classes = int(max(train_y.max(), test_y.max())) + 1
    train_x, test_x = _standardise(train_x, test_x)
    penalty = _choose_penalty(train_x, train_y, classes, penalties, folds)
    weight = fit_logistic(train_x, train_y, classes, penalty)
    return _accuracy(weight, test_x, test_y)


def fit_logistic(
    x: torch.Tensor,
    y: torch.Tensor,
    classes: int,
    penalty: float,
    start: torch.Tensor | None = None,
) -> torch.Tensor:
    """Fit multinomial logistic regression by L-BFGS to its optimum.

    Minimizes mean cross-entropy + penalty / 2 * sum of squared weights; biases are not
    penalized.

    Arguments
    ---------
    x : torch.Tensor
        (N, D) float64 features.
    y : torch.Tensor
        (N,) int64 classes.
    classes : int
        Number of classes.
    penalty : float
        L2 penalty, at least 0.
    start : torch.Tensor, optional
        (D + 1, classes) initial weights, which only affect the run time. Default:
        zeros.

    Returns
    -------
    torch.Tensor
        (D + 1, classes) float64; the last row holds the biases.
    """
    if start is None:
        start = torch.zeros(x.shape[1] + 1, classes, dtype=torch.float64)
    weight = start.clone().requires_grad_()
    optimizer = torch.optim.LBFGS(
        [weight],
        max_iter=200,
        tolerance_grad=1e-3,
        tolerance_change=1e-7,
        line_search_fn="strong_wolfe",
    )

    def closure():
        optimizer.zero_grad()
        loss = F.cross_entropy(_scores(weight, x), y)
        loss = loss + penalty / 2 * weight[:-1].square().sum()
        loss.backward()
        return loss

    # The caller may extract features under no_grad.
    with torch.enable_grad():
        optimizer.step(closure)
    return weight.detach()


def draw_labelled(labels: torch.Tensor, count: int, seed: int) -> torch.Tensor:
    """Draw labelled examples for a probe, as balanced over classes as possible.

    Arguments
    ---------
    labels : torch.Tensor
        (N,) int64 classes of all candidates.
    count : int
        Number of examples; all if there are fewer candidates.
    seed : int
        Seed of the draw.

    Returns
    -------
    torch.Tensor
        (count,) int64 indices in random order, classes interleaved.

    Example
    -------
    >>> draw_labelled(torch.tensor([0] * 90 + [1] * 10), 10, seed=0).ge(90).sum()
    tensor(5)
    """
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(labels), generator=generator)
    turn = torch.zeros(len(labels), dtype=torch.int64)
    for label in labels.unique():
        of_class = labels[order] == label
        turn[of_class] = torch.arange(int(of_class.sum()))
    return order[turn.argsort(stable=True)][:count]


def _choose_penalty(x, y, classes, penalties, folds) -> float:
    fold = torch.arange(len(x)) * folds // len(x)
    # From the largest penalty down, each fit starts from the previous weights; ties go
    # to the largest penalty.
    penalties = sorted(penalties, reverse=True)
    scores = dict.fromkeys(penalties, 0.0)
    for number in range(folds):
        held_out = fold == number
        weight = None
        for penalty in penalties:
            weight = fit_logistic(x[~held_out], y[~held_out], classes, penalty, weight)
            scores[penalty] += _accuracy(weight, x[held_out], y[held_out])
    return max(penalties, key=scores.__getitem__)


def _standardise(train: torch.Tensor, test: torch.Tensor):
    train, test = train.double(), test.double()
    mean, std = train.mean(0), train.std(0).clamp(min=1e-8)
    return (train - mean) / std, (test - mean) / std


def _scores(weight: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return x @ weight[:-1] + weight[-1]


def _accuracy(weight: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> float:
    return float((_scores(weight, x).argmax(1) == y).double().mean())


def _check(x: torch.Tensor, y: torch.Tensor, what: str) -> None:
    if x.dim() != 2 or y.shape != x.shape[:1] or len(x) == 0:
        raise ValueError(
            f"{what}: expected features (N, D) and classes (N,), "
            f"got {tuple(x.shape)} and {tuple(y.shape)}"
        )
