"""Reading of valid, unusual and broken audio files."""

import numpy
import pytest
import torch

from sb_espnet_vq.corpora import inspect_audio, read_audio
from sb_espnet_vq.corpora.audio import AudioInfo, conversion_notes
from sb_espnet_vq.errors import CorpusError

soundfile = pytest.importorskip("soundfile")


def tone(rate, seconds=0.5, hertz=440.0):
    time = numpy.arange(int(rate * seconds)) / rate
    return 0.5 * numpy.sin(2 * numpy.pi * hertz * time)


def test_a_mono_file_at_the_target_rate_is_read_unchanged(tmp_path):
    signal = (tone(16000) * 32767).astype("int16")
    soundfile.write(tmp_path / "a.wav", signal, 16000)
    read = read_audio(tmp_path / "a.wav", 16000)
    assert read.dtype == torch.float32
    assert numpy.array_equal(read.numpy() * 32768, signal)


def test_stereo_at_8_khz_becomes_mono_at_16_khz(tmp_path):
    left = tone(8000)
    soundfile.write(tmp_path / "a.flac", numpy.stack([left, 0 * left], 1), 8000)
    read = read_audio(tmp_path / "a.flac", 16000)
    wanted = tone(16000) / 2
    assert read.shape == wanted.shape
    # Without the ends, where the filter covers the silence outside the file.
    inner = slice(400, -400)
    assert numpy.abs(read.numpy() - wanted)[inner].max() < 0.01


def test_inspection_returns_duration_rate_and_channels(tmp_path):
    soundfile.write(tmp_path / "a.wav", numpy.zeros((4000, 2)), 8000)
    assert inspect_audio(tmp_path / "a.wav") == AudioInfo(0.5, 8000, 2)


def broken_files(folder):
    (folder / "empty.wav").touch()
    (folder / "text.wav").write_text("this is no audio at all, whatever its name says")
    soundfile.write(folder / "silent.wav", numpy.zeros(0), 16000)
    soundfile.write(
        folder / "cut.flac", numpy.random.default_rng(0).normal(0, 0.1, 40000), 16000
    )
    content = (folder / "cut.flac").read_bytes()
    (folder / "cut.flac").write_bytes(content[: len(content) // 2])
    (folder / "folder.wav").mkdir()
    return {
        "missing.wav": "no such file",
        "empty.wav": "empty file",
        "text.wav": "not readable as audio",
        "silent.wav": "without samples",
        "cut.flac": "not readable as audio|truncated",
        "folder.wav": "not a file",
    }


def test_broken_files_are_refused_with_name_and_reason(tmp_path):
    for name, reason in broken_files(tmp_path).items():
        with pytest.raises(CorpusError, match=rf"{name}.*({reason})"):
            inspect_audio(tmp_path / name)
        if name != "cut.flac":
            with pytest.raises(CorpusError, match=rf"{name}.*({reason})"):
                read_audio(tmp_path / name, 16000)


def test_conversions_are_reported_once_for_all_files():
    mono, stereo = AudioInfo(1.0, 16000, 1), AudioInfo(1.0, 8000, 2)
    assert conversion_notes([mono, mono], 16000) == []
    notes = conversion_notes([mono, stereo, stereo], 16000)
    assert len(notes) == 2
    assert notes[0].startswith("2 of 3 files have 8000 Hz")
    assert notes[1].startswith("2 of 3 files have several channels")
