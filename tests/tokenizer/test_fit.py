"""``sbvq fit``: k-means over streams of features, saved for this package and others."""

import json
import pickle
import shutil
import sys

import numpy
import pytest
import torch

pytest.importorskip("safetensors")
pytest.importorskip("sklearn")
soundfile = pytest.importorskip("soundfile")

from sb_espnet_vq.cli.main import main  # noqa: E402
from sb_espnet_vq.tokenizer import (  # noqa: E402
    AudioTokenizer,
    feature_files,
    kmeans_fit,
)
from sb_espnet_vq.tokenizer.quantizer_folder import load_quantizer  # noqa: E402

MEANS = 10 * torch.eye(5)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Return a folder of .npy files with frames around five means."""
    folder = tmp_path_factory.mktemp("features")
    draw = torch.Generator().manual_seed(0)
    for n in range(25):
        which = torch.randint(5, (60,), generator=draw)
        frames = MEANS[which] + 0.5 * torch.randn(60, 5, generator=draw)
        numpy.save(folder / f"u{n:02}.npy", frames.numpy())
    return folder


def fit(*words):
    return main(["fit", *(str(word) for word in words)])


@pytest.fixture(scope="module")
def fitted(data, tmp_path_factory):
    """Return folders with one codebook, and with two."""
    folder = tmp_path_factory.mktemp("fitted")
    for stages in (1, 2):
        more = ["--codebook_size", 5, "--n_codebooks", stages]
        assert fit(data, "--out", folder / str(stages), *more) == 0
    return folder


def frames_of(data):
    files = sorted(data.glob("*.npy"))
    return torch.cat([torch.from_numpy(numpy.load(file)) for file in files])


def test_the_centres_are_the_means_of_the_clusters(fitted, data, capsys):
    centres = numpy.load(fitted / "1" / "centres.npy")
    assert centres.shape == (1, 5, 5) and centres.dtype == numpy.float32
    nearest = torch.cdist(MEANS, torch.from_numpy(centres[0])).min(1)
    assert sorted(nearest.indices.tolist()) == [0, 1, 2, 3, 4]
    assert nearest.values.max() < 0.2
    report = json.loads((fitted / "1" / "fit.json").read_text())["held_out"][0]
    # Five dimensions with a variance of 1/4, and clusters of about equal size.
    assert abs(report["error"] - 1.25) < 0.15 and 4.5 < report["perplexity"] <= 5
    assert abs(report["snr"] - 10 * numpy.log10(81.25 / 1.25)) < 0.7


def test_codebooks_are_fitted_to_residuals(fitted, data):
    frames = frames_of(data)
    quantizer = load_quantizer(fitted / "2")
    centres = torch.from_numpy(numpy.load(fitted / "2" / "centres.npy"))
    assert torch.equal(quantizer.codebook_vectors(), centres)
    codes = quantizer.encode(frames[None])[0]
    first = torch.cdist(frames, centres[0]).argmin(1)
    rest = frames - centres[0, first]
    assert torch.equal(
        codes, torch.stack([first, torch.cdist(rest, centres[1]).argmin(1)], 1)
    )
    held_out = json.loads((fitted / "2" / "fit.json").read_text())["held_out"]
    assert held_out[1]["error"] < 0.85 * held_out[0]["error"]
    begun = kmeans_fit.start(frames, 5, 2, seed=0)
    (one, _, _), (two, _, _) = kmeans_fit.distortion([frames], begun)
    assert two < 0.85 * one


def disagreements(labels, frames, centres):
    """Count labels that are not those of the nearest centre, except ties."""
    distances = torch.cdist(frames.double(), centres.double())
    labels = torch.as_tensor(labels).long()
    gap = distances.gather(1, labels[:, None])[:, 0] - distances.min(1).values
    return int((gap > 1e-5).sum())


def test_the_toolkits_load_the_model_and_give_the_same_labels(
    fitted, data, tmp_path, monkeypatch
):
    frames = frames_of(data)
    labels = load_quantizer(fitted / "1").encode(frames[None])[0, :, 0]
    centres = torch.from_numpy(numpy.load(fitted / "1" / "centres.npy"))[0]
    assert disagreements(labels, frames, centres) == 0
    kmeans = pytest.importorskip("speechbrain.integrations.audio_tokenizers.kmeans")
    discrete = pytest.importorskip(
        "speechbrain.integrations.audio_tokenizers.discrete_ssl"
    )
    module = kmeans.MiniBatchKMeansSklearn(n_clusters=5)
    module.load(fitted / "1" / "km.mdl", end_of_epoch=True)
    assert torch.equal(module(frames[None])[0].long(), labels)
    (tmp_path / "kmeans").mkdir()
    name = "kmeans/digits_encoder_k5_L3.pt"
    shutil.copy(fitted / "1" / "km.mdl", tmp_path / name)
    monkeypatch.setattr(discrete, "snapshot_download", lambda **_: str(tmp_path))
    (model,), layers, _ = discrete.DiscreteSSL.load_kmeans(
        None, "repository", "digits", "encoder", [5], None, [3]
    )
    assert layers == (3,) and torch.equal(
        torch.from_numpy(model.predict(frames.numpy())).long(), labels
    )


def test_espnet_reads_a_model_for_each_codebook(fitted, data):
    """``dump_km_label.py --RVQ_layers 2`` takes these names and subtracts centres."""
    joblib = pytest.importorskip("joblib")
    frames = frames_of(data)
    codes = load_quantizer(fitted / "2").encode(frames[None])[0]
    for k in range(2):
        centres = torch.from_numpy(
            joblib.load(fitted / "2" / f"km_RVQ_{k}.mdl").cluster_centers_
        )
        assert disagreements(codes[:, k], frames, centres) == 0
        frames = frames - centres[codes[:, k]]


def test_a_seed_determines_the_result(fitted, data, tmp_path):
    for seed, equal in ((0, True), (1, False)):
        out = tmp_path / str(seed)
        fit(data, "--out", out, "--codebook_size", 5, "--seed", seed)
        same = (out / "centres.npy").read_bytes() == (
            fitted / "1" / "centres.npy"
        ).read_bytes()
        assert same == equal


def test_pools_have_each_frame_once_and_bounded_size():
    draws = [torch.full((n, 1), float(n)) for n in range(1, 40)]
    readers = [lambda each=each: each for each in draws]
    pools = list(feature_files.shuffled_pools(readers, 100, seed=0))
    assert [len(pool) for pool in pools] == [100] * 7 + [80]
    assert torch.equal(torch.cat(pools).sort(0).values, torch.cat(draws))
    again = feature_files.shuffled_pools(readers, 100, seed=0)
    assert torch.equal(torch.cat(list(again)), torch.cat(pools))


def test_a_kaldi_index_gives_the_same_centres(fitted, data, tmp_path):
    kaldiio = pytest.importorskip("kaldiio")
    with kaldiio.WriteHelper(f"ark,scp:{tmp_path}/f.ark,{tmp_path}/f.scp") as writer:
        for file in sorted(data.glob("*.npy")):
            writer[file.stem] = numpy.load(file)
    fit(tmp_path / "f.scp", "--out", tmp_path / "out", "--codebook_size", 5)
    expected = (fitted / "1" / "centres.npy").read_bytes()
    assert (tmp_path / "out" / "centres.npy").read_bytes() == expected


def test_audio_is_log_mel_or_the_output_of_an_encoder(tmp_path, capsys):
    from test_token_formats import config

    for n in range(3):
        soundfile.write(tmp_path / f"{n}.wav", 0.1 * torch.randn(8000).numpy(), 8000)
    AudioTokenizer(config()).save_pretrained(tmp_path / "model")
    small = ["--codebook_size", 4, "--passes", 1]
    assert fit(tmp_path / "0.wav", "--out", tmp_path / "mel", *small) == 0
    assert numpy.load(tmp_path / "mel/centres.npy").shape == (1, 4, 80)
    encoder = ["--encoder", tmp_path / "model", "--out", tmp_path / "codec", *small]
    assert fit(*tmp_path.glob("*.wav"), *encoder) == 0
    assert numpy.load(tmp_path / "codec/centres.npy").shape == (1, 4, 8)
    tokenizer = AudioTokenizer.from_pretrained(tmp_path / "model")
    frames = feature_files.encoder_features(tokenizer, tmp_path / "0.wav")
    signal = torch.from_numpy(soundfile.read(tmp_path / "0.wav", dtype="float32")[0])
    assert torch.equal(frames, tokenizer.features(signal[None])[0][0])


def _bad_npy(folder):
    (folder / "b.npy").write_bytes(b"no array")


def _nan(folder):
    numpy.save(folder / "b.npy", numpy.full((9, 5), numpy.nan, "float32"))


def _other_width(folder):
    numpy.save(folder / "b.npy", numpy.zeros((9, 6), "float32"))


def _command(folder):
    (folder / "b.scp").write_text("b touch ran |\n")


def _command_with_a_place(folder):
    (folder / "b.scp").write_text("b touch ran |:0\n")


def _pickle(folder):
    class Code:
        def __reduce__(self):
            return open, ("ran", "w")

    data = b"PKL" + pickle.dumps(Code())
    (folder / "b.ark").write_bytes(data)
    (folder / "b.scp").write_text(f"b {folder / 'b.ark'}:0\n")


def _cut_archive(folder):
    (folder / "b.ark").write_bytes(b"\0BFM \4\1")
    (folder / "b.scp").write_text(f"b {folder / 'b.ark'}:0\n")


def _flat(folder):
    numpy.save(folder / "b.npy", numpy.zeros(9, "float32"))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_bad_npy, "b.npy: no array that can be read"),
        (_nan, "b: it has features that are NaN"),
        (_other_width, "features of widths"),
        (_command, "does not name a place in an archive"),
        (_command_with_a_place, "does not name a place in an archive"),
        (_pickle, "b.ark:0: no matrix that can be read"),
        (_cut_archive, "b.ark:0: no matrix that can be read"),
        (_flat, "b: features must be (T, D) floats, got (9,)"),
    ],
)
def test_bad_features_are_refused(data, tmp_path, capsys, spoil, message, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(data, tmp_path / "data")
    spoil(tmp_path / "data")
    assert fit(tmp_path / "data", "--out", tmp_path / "out", "--codebook_size", 5) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists() and not (tmp_path / "ran").exists()


def test_held_out_features_are_checked_before_the_fit(tmp_path, monkeypatch, capsys):
    # One of these is held out.
    for n in range(2):
        numpy.save(tmp_path / f"{n}.npy", numpy.zeros((9, 5 + n), "float32"))
    monkeypatch.setattr(kmeans_fit, "start", None)
    files = sorted(tmp_path.glob("*.npy"))
    assert fit(*files, "--out", tmp_path / "out", "--codebook_size", 2) == 2
    assert "features of widths" in capsys.readouterr().err


def test_more_centres_than_frames_in_a_minibatch():
    size = kmeans_fit.BATCH + 10
    centres = torch.arange(2.0 * size).view(1, size, 2)
    (model,) = kmeans_fit.refine([centres[0].clone()], centres, 0)
    assert kmeans_fit.stack_centres([model]).shape == centres.shape


def test_audio_shorter_than_a_window_has_no_frames(tmp_path):
    soundfile.write(tmp_path / "a.wav", numpy.zeros(200), 16000)
    assert feature_files.log_mel(tmp_path / "a.wav").shape == (0, 80)


def test_missing_scikit_learn_is_named_with_its_extra(
    data, tmp_path, monkeypatch, capsys
):
    monkeypatch.setitem(sys.modules, "sklearn.cluster", None)
    assert fit(data, "--out", tmp_path / "out", "--codebook_size", 5) == 2
    assert "scikit-learn, which is not installed" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_folder_is_written_at_once(data, tmp_path, monkeypatch, capsys):
    import joblib

    def full(*_):
        assert not (tmp_path / "out").exists()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(joblib, "dump", full)
    assert fit(data, "--out", tmp_path / "out", "--codebook_size", 5) == 2
    assert "No space left on device" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_too_few_frames_and_full_folders_are_refused(data, fitted, tmp_path, capsys):
    assert fit(data, "--out", tmp_path / "out", "--codebook_size", 5000) == 2
    assert "frames are too few for 5000 centres" in capsys.readouterr().err
    numpy.save(tmp_path / "none.npy", numpy.zeros((0, 5), "float32"))
    assert fit(tmp_path / "none.npy", "--out", tmp_path / "out") == 2
    assert "0 frames are too few for 512 centres" in capsys.readouterr().err
    assert fit(data, "--out", fitted / "1", "--codebook_size", 5) == 2
    assert "give another folder to --out" in capsys.readouterr().err
    numpy.save(tmp_path / "none.npy", numpy.zeros((9, 5), "float32"))
    assert fit(tmp_path / "none.npy", "--out", tmp_path / "none.npy") == 2
    assert "give another folder to --out" in capsys.readouterr().err
