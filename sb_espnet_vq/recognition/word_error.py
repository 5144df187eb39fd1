"""Word errors of a transcript against another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from speechbrain.utils.metric_stats import ErrorRateStats


class WordErrors(NamedTuple):
    """Errors of one utterance.

    Arguments
    ---------
    edits : int
        Substituted, deleted and inserted words.
    words : int
        Words of the reference.
    """

    edits: int
    words: int


def word_errors(hypothesis: Sequence[str], reference: Sequence[str]) -> WordErrors:
    """Count the word errors of an utterance with SpeechBrain's statistics.

    With the words recognized in the recording as the reference these are the errors of
    the differential word error rate (dWER; Mousavi et al. 2024,
    https://arxiv.org/abs/2406.14294). A rate is a sum of edits by a sum of words.

    Arguments
    ---------
    hypothesis : sequence of str
        The words to evaluate.
    reference : sequence of str
        The words of the reference.

    Returns
    -------
    WordErrors

    Example
    -------
    >>> word_errors("one two six".split(), "one too".split())
    WordErrors(edits=2, words=2)
    """
    stats = ErrorRateStats()
    stats.append(["utterance"], [list(hypothesis)], [list(reference)])
    (score,) = stats.scores
    return WordErrors(score["num_edits"], score["num_ref_tokens"])
