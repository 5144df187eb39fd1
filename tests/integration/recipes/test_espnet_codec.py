"""The ESPnet codec recipe from audio files to results, tiny."""

import contextlib
import copy
import importlib.metadata
import importlib.util
import json
import math
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import yaml

from sb_espnet_vq import ConfigError
from sb_espnet_vq.corpora import Utterance
from sb_espnet_vq.corpora.audio import AudioInfo
from sb_espnet_vq.errors import CorpusError
from sb_espnet_vq.gan_codec.codecs import CODECS
from sb_espnet_vq.gan_codec.task import VQGANCodecTask
from sb_espnet_vq.utils.run_lock import lock_folder

ROOT = Path(__file__).parents[3]
RECIPE = ROOT / "recipes" / "espnet_codec"
RATE = 8000
TINY = {
    "codec": "vq_soundstream",
    "codec_conf": {
        "sampling_rate": RATE,
        "generator_params": {
            "hidden_dim": 8,
            "encdec_n_filters": 2,
            "encdec_ratios": [4, 2],
            "encdec_lstm": 0,
            "quantizer_n_q": 4,
            "quantizer_bins": 16,
            "quantizer_kmeans_iters": 2,
            "quantizer_target_bandwidth": [4, 16],
        },
        "discriminator_params": {
            "scales": 1,
            "scale_discriminator_params": {
                "kernel_sizes": [5, 5, 3, 3],
                "channels": 4,
                "max_downsample_channels": 8,
                "max_groups": 2,
                "downsample_scales": [2],
            },
            "complexstft_discriminator_params": {
                "channels": 2,
                "strides": [[1, 2], [2, 2]],
                "chan_mults": [1, 2],
                "n_fft": 64,
                "hop_length": 16,
                "win_length": 64,
            },
        },
        "mel_loss_params": {"range_start": 6, "range_end": 7, "n_mels": 8},
    },
    "optim": "adam",
    "optim2": "adam",
    "generator_first": True,
    "unused_parameters": True,
    "iterator_type": "chunk",
    "chunk_length": 800,
    "batch_size": 4,
    "max_epoch": 1,
    "num_workers": 0,
    "use_matplotlib": False,
    "use_tensorboard": False,
}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Sounds of four speakers, short ones, and one stereo at another rate."""
    folder = tmp_path_factory.mktemp("corpus")
    generator = np.random.default_rng(0)
    rows = ["wav,ID,spk_id"]
    for number in range(16):
        rate = 16000 if number == 3 else RATE
        seconds = 1.507 if number % 4 == 0 else 0.3
        time_ = np.arange(int(rate * seconds)) / rate
        hertz = (200 + 50 * number) * (1 + 0.3 * np.sin(2 * math.pi * 3 * time_))
        wave = 0.3 * np.sin(2 * math.pi * np.cumsum(hertz) / rate)
        wave += 0.02 * generator.standard_normal(len(wave))
        channels = np.stack([wave, wave], 1) if number == 3 else wave
        soundfile.write(folder / f"s{number:02d}.wav", channels, rate)
        rows.append(f"s{number:02d}.wav,one/s {number},spk{number // 4}")
    (folder / "manifest.csv").write_text("\n".join(rows) + "\n")
    (folder / "tiny.yaml").write_text(yaml.safe_dump(TINY))
    return folder


def run(*words, at, status=0, command=("bash", str(RECIPE / "run.sh"))):
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHON": sys.executable}
    done = subprocess.run(
        [*command, *map(str, words)],
        cwd=at,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    shown = done.stdout + done.stderr
    assert (done.returncode == 0) == (status == 0), shown
    return shown


def options(corpus, **more):
    given = {
        "manifest": corpus / "manifest.csv",
        "join_seconds": 1,
        "held_out": "0.25 0.25",
        **more,
    }
    return [str(x) for key, value in given.items() for x in (f"--{key}", value)]


@pytest.fixture(scope="module")
def ended(corpus, tmp_path_factory):
    """Run all stages once, from a folder outside the recipe."""
    here = tmp_path_factory.mktemp("a folder")
    shown = run(
        corpus / "tiny.yaml", *options(corpus, nj=2), "--bandwidths=16 4", at=here
    )
    return here / "results" / "espnet_codec" / "tiny", shown


@pytest.mark.slow
def test_data_are_in_kaldis_style(ended):
    data = ended[0] / "data"
    speakers = []
    for part in ("train", "valid", "test"):
        rows = {}
        for name in ("wav.scp", "utt2spk", "spk2utt", "utt2num_samples"):
            lines = (data / part / name).read_text().splitlines()
            assert lines == sorted(lines)
            rows[name] = dict(line.split(maxsplit=1) for line in lines)
        assert rows["wav.scp"].keys() == rows["utt2spk"].keys()
        backwards = {
            name: speaker
            for speaker, names in rows["spk2utt"].items()
            for name in names.split()
        }
        assert backwards == rows["utt2spk"]
        for name, path in rows["wav.scp"].items():
            # Four speakers' four sounds, of which the short ones were joined.
            wave, rate = soundfile.read(path)
            assert rate == RATE and wave.ndim == 1 and len(wave) > RATE
            assert len(wave) == int(rows["utt2num_samples"][name])
            assert abs(wave).max() == pytest.approx(0.9, abs=1e-3)
            assert name.startswith(rows["utt2spk"][name])
        speakers += rows["spk2utt"]
    assert sorted(speakers) == ["spk0", "spk1", "spk2", "spk3"]
    # Nothing is left of what was written aside.
    assert sorted(p.name for p in ended[0].iterdir()) == [".data.lock", "data", "exp"]


@pytest.mark.slow
def test_the_report_has_correct_results(ended):
    folder, shown = ended
    results = json.loads((folder / "exp" / "results.json").read_text())
    assert (folder / "exp" / "results.png").stat().st_size > 1000
    low, high = results["bandwidths"]
    assert (low["asked_kbit_per_s"], high["asked_kbit_per_s"]) == (4, 16)
    # The last frame of a recording sticks out of it.
    assert low["trained"]["kbit_per_s"] == pytest.approx(4, rel=0.01)
    assert high["trained"]["kbit_per_s"] == pytest.approx(16, rel=0.01)
    assert (low["trained"]["codebooks"], high["trained"]["codebooks"]) == (1, 4)
    for row in (low, high):
        for state in ("trained", "untrained"):
            for name in ("STOI", "SI_SNR", "SDR"):
                assert math.isfinite(row[state][name])
        assert row["trained"]["SI_SNR"] != row["untrained"]["SI_SNR"]
    assert "vq_soundstream with rvq at 8000 Hz" in shown
    assert f"{low['trained']['STOI']:.1f}" in shown
    # The untrained model is the one that training started from.
    lists = folder / "exp" / "inference" / "untrained" / "at_4" / "wav"
    assert len(list(lists.iterdir())) == results["test_recordings"]


@pytest.mark.slow
def test_a_second_start_goes_on(ended, corpus):
    """Data and decoded speech are reused; training resumes for another epoch."""
    folder, _ = ended
    config, here = corpus / "tiny.yaml", folder.parents[2]
    wav = next((folder / "data" / "train" / "wav").iterdir())
    before = wav.stat().st_mtime_ns
    more = options(corpus, stop_stage=3, train_args="--max_epoch 2")
    assert "resuming after" in run(config, *more, at=here)
    assert wav.stat().st_mtime_ns == before
    log = (folder / "exp" / "train.log").read_text()
    assert "The training was resumed" in log
    assert "2/2epoch started" in log and "1/2epoch started" not in log
    # A codec of other options is not gone on with, nor a checkpoint that was cut.
    wrong = ["--expdir", folder / "exp", "--quantizer", "bsq"]
    shown = run(config, *options(corpus), *wrong, at=here, status=2)
    assert "another codec_conf" in shown and "quantizer" in shown
    checkpoint = folder / "exp" / "checkpoint.pth"
    checkpoint.write_bytes(checkpoint.read_bytes()[:-100])
    shown = run(config, *options(corpus, stage=3), at=here, status=2)
    assert "checkpoint.pth was cut short" in shown and "--init_param" in shown


@pytest.mark.slow
def test_a_stopped_run_leaves_no_process(corpus, tmp_path):
    command = ["bash", RECIPE / "run.sh", corpus / "tiny.yaml", *options(corpus)]
    command += ["--train_args", "--max_epoch 100000"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHON": sys.executable}
    shell = subprocess.Popen(
        list(map(str, command)),
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        checkpoint = (
            tmp_path / "results" / "espnet_codec" / "tiny" / "exp" / "1epoch.pth"
        )
        # Training starts within seconds, but within minutes on a busy machine.
        for _ in range(3000):
            if checkpoint.exists() or shell.poll() is not None:
                break
            time.sleep(0.1)
        assert checkpoint.exists() and shell.poll() is None
        shell.send_signal(signal.SIGTERM)
        assert shell.wait(timeout=30) == 128 + signal.SIGTERM
        # Terminated processes may still be ending.
        for _ in range(100):
            left = [p for p in running() if str(tmp_path) in p]
            if not left:
                break
            time.sleep(0.1)
        assert not left
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(shell.pid, signal.SIGKILL)


FAILING = """#!/bin/bash
# A Python whose training fails, as soon as the watcher of its log is at work.
case "$*" in *gan_codec_train*) sleep 0.5; echo out of memory; exit 3 ;; esac
exec '{python}' "$@"
"""


@pytest.fixture
def prepared(corpus, tmp_path):
    """A folder in which training can begin, and a Python that cannot train."""
    for part in ("train", "valid"):
        shapes = tmp_path / "out/exp/shapes" / part
        shapes.mkdir(parents=True)
        (shapes / "audio_shape").touch()
    python = tmp_path / "python"
    python.write_text(FAILING.format(python=sys.executable))
    python.chmod(0o755)
    words = ["--output_folder", "out", "--stage", "3", "--python", python]
    return [corpus / "tiny.yaml", *words]


def test_a_training_that_fails_leaves_no_process(prepared, tmp_path):
    """Otherwise a reader of its output would never reach the end of file."""
    done = subprocess.run(
        ["bash", RECIPE / "run.sh", *map(str, prepared)],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 1
    assert "out of memory" in done.stdout
    assert "this is the end of out/exp/train.log" in done.stdout
    assert not [line for line in running() if str(tmp_path) in line]


HOLDER = """
import sys, time
from sb_espnet_vq.utils.run_lock import lock_folder
lock_folder(*sys.argv[1:])
print("locked", flush=True)
time.sleep(600)
"""


def hold(*words):
    command = [sys.executable, "-c", HOLDER, *map(str, words)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "locked\n"
    return process


def test_a_second_run_is_refused_until_the_first_has_ended(prepared, tmp_path):
    first = hold(tmp_path / "out/exp")
    try:
        shown = run(*prepared, at=tmp_path, status=2)
    finally:
        first.kill()
    assert f"another run is using this folder: process {first.pid} on" in shown
    assert not (tmp_path / "out/exp/train.yaml").exists()
    first.wait()
    # A killed run does not block this one, which reaches training.
    assert "out of memory" in run(*prepared, at=tmp_path, status=1)


def test_data_that_a_run_reads_are_not_made_anew(scripts, tmp_path):
    folder = sounds(tmp_path / "in", 1)
    data = prepare(scripts, tmp_path, data_folder=folder, join_seconds=0.5)
    # Release the locks of this process.
    lock_folder(tmp_path / "elsewhere")
    first = hold(tmp_path, ".data.lock")
    try:
        # The same data are available.
        prepare(scripts, tmp_path, data_folder=folder, join_seconds=0.5)
        with pytest.raises(ConfigError, match=f"process {first.pid} on"):
            prepare(scripts, tmp_path, data_folder=folder, join_seconds=0.6)
    finally:
        first.kill()
        first.wait()
    assert len(list(data.glob("*/wav/*.wav"))) == 6


def running():
    """The working folder and command line of every process."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            yield f"{os.readlink(process / 'cwd')} {words}"
        except OSError:
            continue


WRONG = [
    (["--lr", "3"], "unknown option --lr; known are: stage"),
    (["--stage"], "--stage needs a value"),
    (["--stage", "two"], "--stage takes a whole number, not 'two'"),
    (["--held_out", "half"], "--held_out takes two shares"),
    (["tiny.yaml", "more"], "more is not an option"),
    (["--stage", "0"], "--stage takes a number from 1 to 6, not 0"),
    (["--stop_stage", "7"], "--stop_stage takes a number from 1 to 6, not 7"),
    (["--stage=4", "--stop_stage=3"], "--stop_stage 3 is before --stage 4"),
    (["--nj", "0"], "--nj takes a number above 0"),
    (["--nj", "-1"], "--nj takes a whole number, not '-1'"),
    (["--ngpu", "one"], "--ngpu takes a whole number, not 'one'"),
    (["--join_seconds", "-1"], "--join_seconds takes a number, not '-1'"),
    (["--peak", "1.5"], "--peak takes a number from 0 to 1, not 1.5"),
    (["--held_out", "0.5 0.5"], "--held_out takes two shares above 0 that add up"),
    (["--held_out", "0 0.5"], "--held_out takes two shares above 0 that add up"),
    (
        ["--output_folder", "a,b", "--expdir", "exp"],
        "a,b/data: ESPnet's options allow no path",
    ),
    # The last of an option given twice wins.
    (["--nj", "2", "--nj", "none"], "--nj takes a whole number, not 'none'"),
    # One of those that the configuration is checked for, below.
    (["none.yaml"], "none.yaml: no such training configuration"),
]


@pytest.mark.parametrize(("words", "reason"), WRONG, ids=lambda w: str(w)[:40])
def test_a_mistake_is_named_at_once(words, reason, tmp_path):
    assert reason in run(*words, at=tmp_path, status=2)
    assert not list(tmp_path.iterdir())


def test_sbvq_run_starts_it(tmp_path):
    sbvq = (sys.executable, "-m", "sb_espnet_vq.cli", "run", "espnet_codec")
    shown = run("--help", at=tmp_path, command=sbvq)
    assert "usage: run.sh" in shown and "--quantizer_conf " in shown
    run("--lr", "3", at=tmp_path, command=sbvq, status=2)
    assert not list(tmp_path.iterdir())


# ------------------------------------------------------- the scripts, in process


@pytest.fixture
def scripts(monkeypatch):
    """Import the recipe's own modules."""
    names = ("known_codecs", "config", "configure")
    names += ("prepare_data", "write_shapes", "list_pairs")
    monkeypatch.syspath_prepend(str(RECIPE))
    yield SimpleNamespace(**{name: importlib.import_module(name) for name in names})
    for name in names:
        sys.modules.pop(name)


def write_config(folder, **changes):
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump({**TINY, **changes}))
    return path


def generator(**options):
    conf = copy.deepcopy(TINY["codec_conf"])
    conf["generator_params"] |= options
    return {"codec_conf": conf}


def test_each_code_costs_the_bits_of_its_codebook(scripts, tmp_path):
    (tmp_path / "codec").mkdir()
    np.save(tmp_path / "codec/a.npy", np.zeros((2, 1, 50), dtype=np.int64))
    # Two codebooks of 50 frames in half a second, and a third that is not used.
    usage = scripts.list_pairs.measure(tmp_path, {"a": 4000}, 8000, [4.0, 2.0, 9.0])
    assert usage["kbit_per_s"] == pytest.approx(6 * 50 / 0.5 / 1000)
    assert usage["codebooks"] == 2 and usage["used_codes"] == 1


@pytest.mark.parametrize(
    ("codec", "sizes"),
    [("soundstream", 4), ("vq_soundstream", 4), ("vq_hificodec", 8)],
)
def test_every_codebook_has_a_size(scripts, codec, sizes):
    config = TINY | {"codec": codec}
    assert scripts.config.codebook_sizes(config) == [16] * sizes


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"chunk_length": 801}, "chunk_length must be a multiple of 8"),
        ({"chunk_length": "80,12"}, "multiple of 8"),
        ({"chunk_length": "long"}, "chunk_length must be in samples"),
        ({"codec": "vq_none"}, "no codec 'vq_none'; known are .*vq_dac"),
        ({"codec_conf": {}}, "codec_conf needs sampling_rate"),
        ({"codec": None}, "has codec and codec_conf"),
        ({"codec": "soundstreem"}, r"no codec 'soundstreem' \(did you mean .*soundstr"),
        (
            {"codec": "hificodec"},
            r"no codec 'hificodec' \(did you mean vq_hificodec\?\); .*of ESPnet dac",
        ),
        ({"codec": "funcodec"}, "encdec_ratios must be pairs of factors"),
        (
            {"codec": "funcodec"} | generator(encdec_ratios=[[4, 1], [2, 2]]),
            r"multiple of 320 samples \(one frame, the product of hop_length",
        ),
        ({"codec": "vq_hificodec", "chunk_length": 200}, "product of upsample_rates"),
        # As FunCodec's own configuration has them.
        (
            generator(encdec_ratios=[[4, 1], [2, 1]]),
            "encdec_ratios must be a list of wh",
        ),
        (generator(encdec_ratios=8), "encdec_ratios must be a list of whole numbers"),
        (generator(encdec_ratios=[4, 0]), "encdec_ratios must be a list of whole num"),
        (generator(encdec_n_filters="many"), "encdec_n_filters: argument .*of int"),
        (generator(hidden=8), "generator_params.hidden: .* has no option 'hidden'"),
    ],
    ids=str,
)
def test_configurations_that_cannot_train_are_refused(
    scripts, tmp_path, changes, reason
):
    path = write_config(tmp_path, **changes)
    with pytest.raises(ConfigError, match=reason):
        scripts.configure.main([str(path), str(tmp_path / "exp")])
    assert not (tmp_path / "exp").exists()


@pytest.mark.parametrize(("version", "needed"), [("202511", False), ("202611", True)])
def test_packages_of_scoring_are_missed_before_data_are_prepared(
    scripts, tmp_path, version, needed, monkeypatch
):
    found, of = importlib.util.find_spec, importlib.metadata.version
    monkeypatch.setattr(
        "importlib.util.find_spec",
        lambda name: None if name == "fast_bss_eval" else found(name),
    )
    monkeypatch.setattr(
        "importlib.metadata.version",
        lambda name: version if name == "espnet" else of(name),
    )
    write_config(tmp_path)
    start = partial(
        scripts.configure.main, [str(tmp_path / "config.yaml"), str(tmp_path / "exp")]
    )
    if not needed:
        return start()
    with pytest.raises(ConfigError, match="fast_bss_eval cannot be imported"):
        start()


@pytest.mark.parametrize("changes", [{}, {"use_tensorboard": True}], ids=str)
def test_tensorboard_is_missed_before_data_are_prepared(
    scripts, tmp_path, changes, monkeypatch
):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec",
        lambda name: None if name == "tensorboard" else found(name),
    )
    path = tmp_path / "config.yaml"
    # Without the option ESPnet writes for it.
    asked = {key: TINY[key] for key in TINY if key != "use_tensorboard"} | changes
    path.write_text(yaml.safe_dump(asked))
    with pytest.raises(ConfigError, match="install it, or set use_tensorboard: false"):
        scripts.configure.main([str(path), str(tmp_path / "exp")])
    write_config(tmp_path)
    scripts.configure.main([str(path), str(tmp_path / "exp")])


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--quantizer", "bqs"], "unknown quantizer 'bqs'"),
        (["--quantizer", "bsq", "--quantizer_conf", "{decay: 1}"], "option 'decay'"),
        (["--quantizer_conf", "high"], "--quantizer_conf takes a mapping"),
        (["--bandwidths", "2 wide"], "a bandwidth must be a number above 0"),
        (["--bandwidths", "0"], "a bandwidth must be a number above 0"),
    ],
    ids=str,
)
def test_options_that_cannot_be_are_refused(scripts, tmp_path, words, reason):
    path = write_config(tmp_path)
    with pytest.raises(ConfigError, match=reason):
        scripts.configure.main([str(path), str(tmp_path / "exp"), *words])
    with pytest.raises(ConfigError, match="no path with a comma"):
        scripts.configure.main([str(path), str(tmp_path / "a,b")])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["config.yaml"]


def test_another_quantizer_leaves_the_options_of_the_first(scripts, tmp_path, capsys):
    conf = TINY["codec_conf"] | {"quantizer_conf": {"code_dim": 4}}
    path = write_config(tmp_path, codec_conf=conf, seed=5)
    words = ["--quantizer", "gumbel", "--quantizer_conf", "{n_codebooks: 2}"]
    scripts.configure.main([str(path), str(tmp_path / "exp"), *words])
    written = yaml.safe_load((tmp_path / "exp" / "train.yaml").read_text())
    assert written["codec_conf"]["quantizer"] == "gumbel"
    assert written["codec_conf"]["quantizer_conf"] == {"n_codebooks": 2}
    assert capsys.readouterr().out.split() == "bandwidths 4 16 seed 5".split()
    path = write_config(tmp_path, codec="soundstream")
    with pytest.raises(ConfigError, match="name vq_soundstream"):
        scripts.configure.main([str(path), str(tmp_path / "exp"), *words])


def prepare(scripts, folder, **given):
    path = write_config(folder)
    words = [f"--{key}={value}" for key, value in given.items()]
    data = folder / "data"
    scripts.prepare_data.main(["--config", str(path), "--data", str(data), *words])
    return data


def sounds(folder, seconds, silent=()):
    folder.mkdir()
    for number in range(6):
        wave = 0.1 * np.sin(np.arange(int(RATE * seconds)) * (0.1 + 0.05 * number))
        wave *= number not in silent
        soundfile.write(folder / f"s{number}.wav", wave, RATE)
    return folder


def test_an_empty_file_is_named(scripts, corpus, tmp_path):
    folder = sounds(tmp_path / "in", 1)
    (folder / "s3.wav").write_bytes(b"")
    (folder / "all.csv").write_text("wav\n" + "".join(f"s{n}.wav\n" for n in range(6)))
    with pytest.raises(CorpusError, match=r"line 5: .*s3.wav: empty file"):
        prepare(scripts, tmp_path, manifest=folder / "all.csv")
    assert not (tmp_path / "data").exists()
    # In a folder it is left out.
    data = prepare(scripts, tmp_path, data_folder=folder, join_seconds=0.5)
    assert len(list(data.glob("*/wav/*.wav"))) == 5


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_recording_that_is_not_finite_is_left_out(scripts, tmp_path, value, caplog):
    folder = sounds(tmp_path / "in", 1)
    wave, _ = soundfile.read(folder / "s3.wav")
    wave[4000] = value
    soundfile.write(folder / "s3.wav", wave, RATE, "FLOAT")
    data = prepare(scripts, tmp_path, data_folder=folder, join_seconds=0.5)
    assert "s3.wav: it has samples that are NaN or infinite" in caplog.text
    written = {path.stem: path for path in data.glob("*/wav/*.wav")}
    assert sorted(written) == ["s0", "s1", "s2", "s4", "s5"]


def test_data_are_made_again_when_their_source_changes(scripts, tmp_path):
    folder = sounds(tmp_path / "in", 1)
    given = {"data_folder": folder, "join_seconds": 0.5}
    data = prepare(scripts, tmp_path, **given)
    mark = data / "mark"
    mark.touch()
    prepare(scripts, tmp_path, **given)
    assert mark.exists()
    (folder / "s0.wav").unlink()
    # What a kill left behind is no obstacle.
    (tmp_path / ".data.partial").mkdir()
    prepare(scripts, tmp_path, **given)
    assert not mark.exists()
    there = sorted(p.name for p in tmp_path.iterdir())
    assert there == [".data.lock", "config.yaml", "data", "in"]


def test_silence_is_left_out(scripts, tmp_path):
    folder = sounds(tmp_path / "in", 1, silent={2})
    data = prepare(scripts, tmp_path, data_folder=folder, join_seconds=0.5)
    assert "s2" not in {path.stem for path in data.glob("*/wav/*.wav")}
    rows = [path.read_text().split()[0::2] for path in data.glob("*/wav.scp")]
    assert sorted(sum(rows, [])) == ["s0", "s1", "s3", "s4", "s5"]


def test_audio_all_shorter_than_a_chunk_is_refused(scripts, tmp_path):
    folder = sounds(tmp_path / "in", 0.09)
    data = prepare(scripts, tmp_path, data_folder=folder, join_seconds=0.01)
    config = str(write_config(tmp_path))
    with pytest.raises(CorpusError, match=r"train: all \d recordings are too short"):
        scripts.write_shapes.main([config, str(data), str(tmp_path / "shapes")])
    config = str(write_config(tmp_path, chunk_length=400, batch_size=64))
    with pytest.raises(CorpusError, match="make no batch of 64"):
        scripts.write_shapes.main([config, str(data), str(tmp_path / "shapes")])
    assert not (tmp_path / "shapes").exists()


def test_short_utterances_are_joined_by_speaker(scripts):
    info = AudioInfo(0.4, RATE, 1)
    short = [Utterance(f"{s}{n}", Path("x"), info, s) for n in range(4) for s in "ab"]
    long = Utterance("c", Path("x"), AudioInfo(2.0, RATE, 1), "a")
    joined = scripts.prepare_data.join_short([*short, long], 1.0)
    names = {speaker + "".join(i.id for i in parts) for speaker, parts in joined}
    # The fourth utterance of each speaker is too short for its own recording.
    assert names == {"aa0a1a2", "bb0b1b2b3", "aca3"}


def test_excess_samples_are_cut_and_silence_is_reported(scripts, tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(path, np.full(100, 0.5), RATE)
    assert scripts.list_pairs.fit(path, 90)
    assert soundfile.info(path).frames == 90
    with pytest.raises(CorpusError, match="90 samples, recorded were 91"):
        scripts.list_pairs.fit(path, 91)
    soundfile.write(path, np.zeros(90), RATE)
    assert not scripts.list_pairs.fit(path, 90)


# ---------------------------------------------------------------- configurations


@pytest.mark.parametrize(
    "path", sorted(RECIPE.glob("conf/*.yaml")), ids=lambda p: p.stem
)
def test_configurations_build_and_measure_what_they_train(scripts, path, tmp_path):
    scripts.configure.main([str(path), str(tmp_path)])
    config = yaml.safe_load(path.read_text())
    parser = VQGANCodecTask.get_parser()
    known = {action.dest for action in parser._actions}
    assert not set(config) - known
    conf = config["codec_conf"]
    codec = CODECS[config["codec"]](**conf)
    rate = codec.fs / codec.frame_shift * math.log2(codec.generator.quantizer.bins)
    most = codec.generator.quantizer.n_q * rate / 1000
    assert max(codec.generator.target_bandwidths) == pytest.approx(most)
    assert min(codec.generator.target_bandwidths) >= rate / 1000
    text = path.read_text()
    assert text.startswith("# ") and text.count("run.sh") >= 2
