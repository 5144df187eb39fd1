"""Similarity of the speaker."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from sb_espnet_vq.evaluation.metrics.audio import Audio

# Rate in Hz of Resemblyzer's network.
_RATE = 16000


def speaker_similarity(estimate: Audio, target: Audio) -> float | None:
    """Return the cosine of the speaker embeddings, at most 1.

    Embeddings of Resemblyzer (Wan et al. 2018, https://arxiv.org/abs/1710.10467), at
    16 kHz, of the audio without silence. They are positive: two speakers have a cosine
    of 0.5 to 0.8. Higher is better.

    Arguments
    ---------
    estimate, target : Audio
        The reconstruction and the recording.

    Returns
    -------
    float or None
        None if one of the two has no speech.
    """
    found, wanted = estimate.of(embedding), target.of(embedding)
    if found is None or wanted is None:
        return None
    return float(found @ wanted)


def embedding(audio: Audio) -> np.ndarray | None:
    """Return the embedding of the speaker, of norm 1; None without speech.

    Arguments
    ---------
    audio : Audio

    Returns
    -------
    numpy.ndarray or None
        (256,) float32.
    """
    from resemblyzer import preprocess_wav

    if audio.is_silent():
        return None
    speech = preprocess_wav(audio.at(_RATE).numpy(), _RATE)
    return _encoder().embed_utterance(speech) if len(speech) else None


@functools.lru_cache(maxsize=1)
def _encoder() -> Any:
    from resemblyzer import VoiceEncoder

    return VoiceEncoder("cpu", verbose=False)
