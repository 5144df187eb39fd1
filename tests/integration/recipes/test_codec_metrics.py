"""Metrics of different kinds agree on which reconstruction is better, on real speech.

The codec quantizes short pieces of the waveform with a chain of codebooks; the
recognizer is trained by recipes/CTC on the recordings.
"""

import csv
import random
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import nn

pytest.importorskip("speechbrain")
pytest.importorskip("pesq")
pytest.importorskip("pystoi")
pytest.importorskip("soundfile")

from sb_espnet_vq.codec.model import Codec
from sb_espnet_vq.corpora import fetch_fsdd, read_rows
from sb_espnet_vq.evaluation.intervals import summarize
from sb_espnet_vq.evaluation.metrics.audio import Audio
from sb_espnet_vq.evaluation.metrics.table import TITLES, compare
from sb_espnet_vq.recognition.word_error import word_errors
from sb_espnet_vq.training.data import read_datasets
from sb_espnet_vq.training.start import load_hparams

ROOT = Path(__file__).parents[3]
CTC = {
    "sample_rate": 8000,
    "held_out": "[0.02, 0.1]",
    "number_of_epochs": 5,
    "seconds_per_batch": 6.4,
    "join_seconds": 1.6,
    "n_fft": 256,
    "n_mels": 40,
    "stack": 4,
    "hidden_size": 64,
    "num_layers": 1,
    "dropout": 0.0,
    "lr": 0.01,
    "warmup_steps": 20,
}
RATE = 8000
NAMES = ("si_sdr", "stoi", "pesq")

pytestmark = [pytest.mark.network, pytest.mark.slow]


class Pieces(nn.Module):
    """Cuts signals (B, L) into frames (B, T, hop), or joins these."""

    hop = 16

    def __init__(self, joins=False):
        super().__init__()
        self.joins = joins
        # The codec is on the device of its parameters.
        self.scale = nn.Parameter(torch.ones(()), requires_grad=False)

    def forward(self, x, lengths=None):
        if self.joins:
            return x.flatten(1)
        return nn.functional.pad(x, (0, -x.shape[1] % self.hop)).unflatten(
            1, (-1, self.hop)
        )


@pytest.fixture(scope="module")
def run(load_recipe, tmp_path_factory):
    """A recognizer trained on 700 recordings, for a few seconds."""
    folder = tmp_path_factory.mktemp("ctc")
    manifest = fetch_fsdd(None, RATE)
    rows = random.Random(0).sample(read_rows(manifest), 800)
    with (folder / "few.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["wav", "label"])
        for row in rows:
            wav = row["wav"].replace("$data_root", str(manifest.parent))
            writer.writerow([wav, row["label"]])
    options = CTC | {"manifest": folder / "few.csv", "output_folder": folder / "run"}
    pairs = [str(x) for key, value in options.items() for x in (f"--{key}", value)]
    with load_recipe(ROOT / "recipes" / "CTC") as train:
        file = str(ROOT / "hparams" / "CTC" / "fsdd.yaml")
        train.main([file, "--device=cpu", "--noprogressbar", *pairs])
    return folder / "run"


@pytest.fixture(scope="module")
def measured(load_recipe, run):
    with load_recipe(ROOT / "recipes" / "codec", "measure") as recipe:
        yield Bench(recipe, run)


class Bench:
    """Test speech of a run of recipes/CTC, and what the codec recipe measures of it."""

    def __init__(self, recipe, run):
        file = str(ROOT / "hparams" / "codec" / "fsdd.yaml")
        hparams = load_hparams(file, {"output_folder": str(run)})
        hparams |= {"asr": str(run), "metrics": list(NAMES)}
        datasets = read_datasets(hparams)
        self.recipe, self.measures = recipe, recipe.choose_measures(hparams)
        self.test = list(recipe.test_signals(datasets["test"], hparams))
        valid = recipe.test_signals(datasets["valid"], hparams)
        self.valid = torch.cat([audio.signal for _, audio in valid])

    def codec(self, codec, codebooks):
        """Return the metrics of a codec with its first codebooks."""
        rate = codec.bitrate(codebooks)
        return self.recipe.measure(codec, self.test, rate, self.measures).means

    def change(self, change):
        """Return the metrics of changed speech, compared with the original."""
        recognize = self.measures.recognize
        rows, errors = [], []
        for _, target in self.test:
            estimate = Audio(change(target.signal), RATE)
            rows.append(compare(estimate, target, NAMES))
            errors.append(word_errors(recognize(estimate), target.of(recognize)))
        return self.recipe.with_word_error(summarize(rows), errors).means


@pytest.fixture(scope="module")
def codec(measured):
    """A codec with eight codebooks, fitted to other speech."""
    torch.manual_seed(0)
    codec = Codec(
        *(Pieces(), Pieces(joins=True), RATE),
        dim=Pieces.hop,
        codebook_size=64,
        n_codebooks=8,
        quantizer="rvq",
        quantizer_conf={"kmeans_init": True, "kmeans_iters": 5},
    )
    with torch.no_grad():
        codec.train()(measured.valid[None])
    return codec


@pytest.fixture(scope="module")
def identity(measured):
    return measured.change(lambda signal: signal)


def better(first, second):
    """Return the metrics by which the first reconstruction is the better one."""
    return {
        name
        for name in (*NAMES, "dwer")
        if (first[name] - second[name]) * (1 if TITLES[name].higher_is_better else -1)
        > 0
    }


def test_pesq_stoi_and_dwer_order_the_bandwidths_alike(measured, codec, identity):
    rows = [identity, *(measured.codec(codec, n) for n in (8, 4, 2))]
    for closer, further in pairwise(rows):
        assert better(closer, further) == {*NAMES, "dwer"}, rows


def test_identity_has_the_best_possible_values(identity):
    assert identity["dwer"] == 0
    assert identity["stoi"] == pytest.approx(1, abs=1e-6)
    # The highest value of narrow-band PESQ.
    assert identity["pesq"] == pytest.approx(4.549, abs=1e-3)


def noise(signal):
    """Add white noise, 15 dB below the speech."""
    added = torch.randn(len(signal), generator=torch.Generator().manual_seed(0))
    return signal + added * signal.norm() / added.norm() * 10 ** (-15 / 20)


def four_bits(signal):
    """Round samples to one of 16 values."""
    peak = signal.abs().max()
    return (signal / peak * 7.5 - 0.5).round().add(0.5) / 7.5 * peak


@pytest.mark.parametrize("damage", [noise, four_bits])
def test_damaged_speech_is_worse_than_the_original(measured, identity, damage):
    damaged = measured.change(damage)
    assert better(identity, damaged) == {*NAMES, "dwer"}, damaged
