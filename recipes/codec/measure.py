"""What the codec does to test speech at a bandwidth: metrics, codes and time."""

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sb_espnet_vq.codec.model import Codec
from sb_espnet_vq.errors import ConfigError
from sb_espnet_vq.evaluation.codecs import cost
from sb_espnet_vq.evaluation.intervals import Summary, bootstrap, summarize
from sb_espnet_vq.evaluation.metrics.audio import Audio
from sb_espnet_vq.evaluation.metrics.table import METRICS, compare, missing_metrics
from sb_espnet_vq.recognition.saved import SavedRecognizer, load_recognizer
from sb_espnet_vq.recognition.word_error import WordErrors, word_errors
from sb_espnet_vq.training.data import make_loader

# Names of utterances, and their recordings.
Utterances = list[tuple[str, Audio]]


class Measures(NamedTuple):
    """What is measured of a reconstruction."""

    names: list[str]  # metrics of an utterance, whose libraries are installed
    missing: dict[str, str]  # the others, and the commands that install them
    recognize: Callable[[Audio], list[str]] | None  # returns words, for dWER


class Transmission(NamedTuple):
    """An utterance encoded and decoded."""

    codes: Tensor  # (T, K) int64, on the CPU
    signal: Tensor  # (L,) float32, on the CPU
    seconds: tuple[float, float]  # of computing, to encode and to decode


def choose_measures(hparams: dict[str, Any]) -> Measures:
    """Return what the hyperparameters select; load the recognizer."""
    # Runs of earlier versions do not have these keys.
    chosen = hparams.get("metrics") or list(METRICS)
    missing = missing_metrics(chosen)
    names = [name for name in chosen if name not in missing]
    if not names:
        raise ConfigError(
            f"metrics: none of {', '.join(chosen)} can be computed; "
            f"{' and '.join(sorted(set(missing.values())))}"
        )
    run = hparams.get("asr")
    recognize = partial(transcript, load_recognizer(run)) if run else None
    return Measures(names, missing, recognize)


def transcript(recognizer: SavedRecognizer, audio: Audio) -> list[str]:
    """Return the words that are recognized in an utterance."""
    return recognizer.transcribe([audio.at(recognizer.sample_rate)])[0]


def test_signals(dataset: Any, hparams: dict[str, Any]) -> Iterator[tuple[str, Audio]]:
    """Yield name and audio of test speech, concatenated as in training."""
    rate = hparams["sample_rate"]
    for batch in make_loader(dataset, hparams):
        rows = zip(batch.ids, batch.signals, batch.samples, strict=True)
        yield from ((name, Audio(x[:count], rate)) for name, x, count in rows)


def measure(
    codec: Codec,
    utterances: Utterances,
    bandwidth: float,
    measures: Measures,
    beam: int = 1,
) -> Summary:
    """Return metrics at a bandwidth (kbit/s); the means include the cost of codes."""
    codec.eval()
    recognize = measures.recognize
    rows, errors, codes, times = [], [], [], []
    # The first call is slower, as it allocates memory.
    transmit(codec, utterances[0][1].signal, bandwidth, beam)
    for _, target in utterances:
        sent = transmit(codec, target.signal, bandwidth, beam)
        estimate = Audio(sent.signal, target.sample_rate)
        rows.append(compare(estimate, target, measures.names))
        if recognize is not None:
            errors.append(word_errors(recognize(estimate), target.of(recognize)))
        codes.append(sent.codes)
        times.append(sent.seconds)
    summary = summarize(rows)
    if errors:
        summary = with_word_error(summary, errors)
    duration = sum(len(each.signal) for _, each in utterances) / codec.sample_rate
    spent = cost(torch.cat(codes), codec.quantizer.codebook_sizes, duration)
    encode, decode = (sum(each) / duration for each in zip(*times, strict=True))
    speed = {
        "encode_real_time_factor": encode,
        "decode_real_time_factor": decode,
        "real_time_factor": encode + decode,
    }
    return summary._replace(means=summary.means | spent._asdict() | speed)


def with_word_error(summary: Summary, errors: Sequence[WordErrors]) -> Summary:
    """Add the word error, which is that of all utterances together."""
    edits, words = ([row[n] for row in errors] for n in (0, 1))
    known = sum(words) > 0
    return Summary(
        summary.means | {"dwer": sum(edits) / sum(words) if known else None},
        summary.intervals | {"dwer": bootstrap(edits, words) if known else None},
        summary.counts | {"dwer": sum(count > 0 for count in words)},
    )


def of_recordings(utterances: Utterances, names: Sequence[str]) -> dict[str, Any]:
    """Return the metrics of the recordings that compare with nothing."""
    alone = [name for name in names if not METRICS[name].compares]
    rows = [compare(audio, audio, alone) for _, audio in utterances]
    return summarize(rows).means


def transmit(
    codec: Codec, signal: Tensor, bandwidth: float, beam: int = 1
) -> Transmission:
    """Encode and decode a signal (L,)."""
    device = next(codec.parameters()).device
    started = now(device)
    codes = codec.encode(signal[None].to(device), bandwidth=bandwidth, beam=beam)
    encoded = now(device)
    audio = codec.decode(codes)[0, : len(signal)]
    seconds = encoded - started, now(device) - encoded
    return Transmission(codes[0].cpu(), audio.cpu(), seconds)


def now(device: torch.device) -> float:
    """Return the time in seconds, after what the device still has to do."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
