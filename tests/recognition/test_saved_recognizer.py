"""A recognizer is loaded from a run of recipes/CTC and transcribes audio."""

import pytest
import torch

from sb_espnet_vq.errors import CheckpointError

pytest.importorskip("speechbrain")

from saved_runs import save_run

from sb_espnet_vq.recognition.saved import load_recognizer
from sb_espnet_vq.recognition.word_error import word_errors
from sb_espnet_vq.training.trained import best_checkpoint


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    save_run(folder, "CTC/fsdd", sample_rate=8000)
    return folder


def test_it_has_the_weights_and_statistics_of_the_run(run):
    recognizer = load_recognizer(run)
    assert recognizer.sample_rate == 8000 and not recognizer.training
    folder = best_checkpoint(run, "word_error").path
    for part in ("source", "recognizer"):
        saved = torch.load(folder / f"{part}.ckpt", weights_only=True)
        name = "network" if part == "recognizer" else part
        loaded = getattr(recognizer, name).state_dict()
        assert loaded.keys() == saved.keys() and saved
        assert all(torch.equal(loaded[key], saved[key]) for key in saved)


def test_it_transcribes_a_batch_as_one_by_one(run):
    recognizer = load_recognizer(run)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        # A network without training rarely outputs a word.
        recognizer.network.output.weight.normal_(0, 3, generator=generator)
    signals = [torch.randn(n, generator=generator) for n in (8000, 3000, 100)]
    words = recognizer.transcribe(signals)
    assert words == [recognizer.transcribe([signal])[0] for signal in signals]
    assert {"one", "two"} == {word for row in words for word in row}
    assert recognizer.transcribe([]) == []


def test_another_folder_is_refused(run, tmp_path):
    with pytest.raises(CheckpointError, match="no run of a recipe"):
        load_recognizer(tmp_path)
    save_run(tmp_path / "codec", "codec/fsdd")
    with pytest.raises(CheckpointError, match="no checkpoint with a metric 'word_err"):
        load_recognizer(tmp_path / "codec")


def test_a_rate_of_word_errors_counts_every_kind():
    said = "one two three four".split()
    assert word_errors(said, said) == (0, 4)
    # One substituted, one deleted, one inserted.
    assert word_errors("one six three three".split(), said) == (2, 4)
    assert word_errors("nine one two four".split(), said) == (2, 4)
    assert word_errors([], said) == (4, 4)
    assert word_errors(["one"], []) == (1, 0)
