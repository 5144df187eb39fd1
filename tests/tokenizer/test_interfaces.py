"""A tokenizer in the interfaces of other packages, beside their own classes."""

import importlib.util
import re
import shutil
import sys
import types
from pathlib import Path

import pytest
import torch
from torch import nn

pytest.importorskip("speechbrain")
pytest.importorskip("safetensors")

from hyperpyyaml import load_hyperpyyaml
from saved_runs import save_run

from sb_espnet_vq.errors import ConfigError, ShapeError
from sb_espnet_vq.tokenizer import AudioTokenizer, interfaces

SIGNALS = 0.3 * torch.randn(2, 4000, generator=torch.Generator().manual_seed(1))
RELATIVE = torch.tensor([1.0, 0.633])
SAMPLES = torch.tensor([4000, 2532])


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "codec"
    save_run(folder, "codec/fsdd")
    AudioTokenizer.from_run(folder).save_pretrained(folder / "saved")
    return folder / "saved"


@pytest.fixture(scope="module")
def tokenizer(saved):
    return AudioTokenizer.from_pretrained(saved)


@pytest.fixture(scope="module")
def expected(tokenizer):
    """Codes without -1, their lengths, and the audio."""
    codes, lengths = tokenizer.encode(SIGNALS, SAMPLES)
    assert len(codes.unique()) > 8 and lengths.tolist() == [50, 32]
    return codes.clamp(min=0), lengths, tokenizer.decode(codes, lengths)


@pytest.fixture(scope="module")
def encodec(tmp_path_factory):
    """SpeechBrain's lobe of an untrained EnCodec."""
    transformers = pytest.importorskip("transformers")
    lobes = pytest.importorskip("speechbrain.integrations.huggingface.encodec")
    folder = str(tmp_path_factory.mktemp("encodec"))
    sizes = {"num_filters": 2, "hidden_size": 8, "codebook_dim": 8, "codebook_size": 4}
    config = transformers.EncodecConfig(**sizes, target_bandwidths=[1.5])
    transformers.EncodecModel(config).save_pretrained(folder)
    transformers.EncodecFeatureExtractor().save_pretrained(folder)
    return lobes.Encodec(folder, folder)


def use_lobe(lobe):
    """Return what a user of SpeechBrain's lobe gets from it."""
    tokens, emb = lobe.encode(SIGNALS, RELATIVE)
    tokens_again, _ = lobe(SIGNALS[:, None], RELATIVE)
    assert torch.equal(tokens, tokens_again) and tokens.min() >= 0
    assert tokens.max() < lobe.num_tokens and tokens.shape[2] == lobe.num_heads
    assert emb.shape == (*tokens.shape, lobe.emb_dim)
    audio = lobe.decode(tokens, RELATIVE)
    assert lobe.decode(tokens).shape == audio.shape and audio.abs().max() > 0
    results = tokens, emb, lobe.embeddings(tokens), audio
    return results, [(each.dim(), each.dtype) for each in results]


def test_the_lobe_is_like_one_of_speechbrain(tokenizer, expected, encodec):
    lobe = interfaces.DiscreteLobe(tokenizer)
    (tokens, emb, again, audio), kinds = use_lobe(lobe)
    assert kinds == use_lobe(encodec)[1]
    codes, lengths, signals = expected
    assert torch.equal(tokens, codes) and not tokens[1, lengths[1] :].any()
    assert torch.equal(audio[:, 0], signals) and torch.equal(emb, again)
    frames = tokenizer.model.quantizer.decode(codes)
    assert torch.allclose(emb.sum(2), frames, atol=1e-5)
    coarse, _ = interfaces.DiscreteLobe(tokenizer, 2).encode(SIGNALS, RELATIVE)
    assert torch.equal(coarse, codes[..., :2])
    with pytest.raises(ShapeError, match=r"K in \[1, 2\]"):
        interfaces.DiscreteLobe(tokenizer, 2).embeddings(codes)
    assert "vocabulary" not in lobe.state_dict()


def test_dasb_embeds_and_decodes_the_tokens(tokenizer, expected):
    codes, _, audio = expected
    dasb = interfaces.DASBTokenizer(tokenizer)
    assert torch.equal(dasb.sig_to_tokens(SIGNALS, RELATIVE), codes)
    assert torch.equal(dasb.sig_to_tokens(SIGNALS, RELATIVE, 3), codes[..., :3])
    tokens = dasb.sig_to_tokens(SIGNALS, RELATIVE, num_codebooks=[0, 2])
    assert torch.equal(tokens, codes[..., [0, 2]])
    # As DASB's embedding layer: one table, with an offset for each codebook.
    table = dasb.get_pretrained_embeddings(16, [0, 2], device="cpu")
    assert table.shape == (2 * 16, 8)
    emb = nn.functional.embedding(tokens + torch.arange(0, 2 * 16, 16), table)
    vectors = tokenizer.codebook_vectors()
    assert torch.equal(emb[..., 1, :], vectors[2, codes[..., 2]])
    assert torch.equal(dasb.tokens_to_sig(codes, RELATIVE), audio)
    alone = dasb.tokens_to_sig(tokens[:1], num_codebooks=[0, 2])
    missing = codes[:1, :, :3].clone()
    missing[..., 1] = -1
    assert torch.equal(alone, tokenizer.decode(missing))
    assert not torch.equal(alone, dasb.tokens_to_sig(tokens[:1]))


@pytest.mark.parametrize("number", [0, 5, [], [4], [1, 1], [-1], 1.0, "2"])
def test_codebooks_that_do_not_exist_are_refused(tokenizer, number):
    dasb = interfaces.DASBTokenizer(tokenizer)
    for call in (
        lambda: dasb.sig_to_tokens(SIGNALS, RELATIVE, number),
        lambda: dasb.get_pretrained_embeddings(16, number),
    ):
        with pytest.raises(ConfigError, match=r"num_codebooks must be in \[1, 4\]"):
            call()
    with pytest.raises(ConfigError, match="vocab_size must be 16 here, got 1024"):
        dasb.get_pretrained_embeddings(1024, 2)


@pytest.fixture
def audiocodecs_package(monkeypatch):
    """The package, or its base class as documented: it is in no registry."""
    if importlib.util.find_spec("audiocodecs"):
        yield
        return

    class Codec(nn.Module):
        def __init__(self, sample_rate, orig_sample_rate, mode):
            super().__init__()
            self.rates, self.mode = (sample_rate, orig_sample_rate), mode

        def sig_to_toks(self, sig, length):
            return self._sig_to_toks(self._resampled(sig, *self.rates), length)

        def toks_to_sig(self, toks, length):
            return self._resampled(self._toks_to_sig(toks, length), *self.rates[::-1])

        def sig_to_qfeats(self, sig, length):
            return self._sig_to_qfeats(self._resampled(sig, *self.rates), length)

        def _resampled(self, sig, old, new):
            repeated = sig.repeat_interleave(max(1, new // old), 1)
            return repeated[:, :: max(1, old // new)]

    package = types.ModuleType("audiocodecs")
    package.Codec = Codec
    monkeypatch.setitem(sys.modules, "audiocodecs", package)
    yield
    sys.modules.pop("sb_espnet_vq.tokenizer.interfaces.audiocodecs_codec", None)


def test_audiocodecs_gets_the_tokens(saved, expected, audiocodecs_package):
    codes, lengths, audio = expected
    codec = interfaces.AudioCodecsCodec(saved, sample_rate=8000, num_codebooks=3)
    toks = codec.sig_to_toks(SIGNALS, RELATIVE)
    assert torch.equal(toks, codes[..., :3]) and codec.embs().shape == (3, 16, 8)
    first = codec.toks_to_sig(codes, RELATIVE)
    assert torch.equal(first, audio)
    frames = codec.sig_to_qfeats(SIGNALS, RELATIVE)
    assert torch.allclose(frames[0], codec._toks_to_qfeats(toks, None)[0], atol=1e-5)
    assert not frames[1, lengths[1] :].any()
    faster = interfaces.AudioCodecsCodec(saved, sample_rate=16000)
    assert faster.sig_to_toks(SIGNALS, RELATIVE).shape == (2, 25, 4)


def test_transformers_gets_an_audio_tokenizer(saved, expected, tmp_path):
    utils = pytest.importorskip("transformers.modeling_utils")
    codes, _, audio = expected
    model = interfaces.TransformersAudioTokenizer(saved)
    assert isinstance(model, utils.PreTrainedAudioTokenizerBase)
    assert model.config.sampling_rate == 8000 and model.config.hop_length == 80
    mask = torch.arange(4000) < SAMPLES[:, None]
    found = model.encode(SIGNALS[:, None], mask)
    assert torch.equal(found.audio_codes, codes.transpose(1, 2))
    assert model.encode(SIGNALS, mask, num_quantizers=2)[0].shape == (2, 2, 50)
    values = model.decode(audio_codes=found.audio_codes).audio_values
    assert torch.allclose(values[0, 0], audio[0], atol=1e-6)
    assert torch.equal(model(SIGNALS, mask).audio_values, values)
    model.save_pretrained(tmp_path / "again")
    again = interfaces.TransformersAudioTokenizer.from_pretrained(tmp_path / "again")
    assert torch.equal(again.encode(SIGNALS, mask).audio_codes, found.audio_codes)
    with pytest.raises(ShapeError, match="nonzero up to the end of a row"):
        model.encode(SIGNALS, mask.flip(1))
    with pytest.raises(ShapeError, match=r"audio_codes must be \(B, K, T\)"):
        model.decode(codes[0])
    with pytest.raises(ShapeError, match=r"input_values must be \(B, 1, L\)"):
        model.encode(SIGNALS[:, None].expand(2, 2, 4000))


def test_espnet_gets_flat_tokens_with_offsets(tokenizer, expected):
    codes, _, audio = expected
    espnet = interfaces.ESPnetCodecTokenizer(tokenizer, dump_audio=True)
    assert (espnet.n_codebook, espnet.size_codebook) == (4, 16)
    assert (espnet.sample_rate, espnet.subsample) == (8000, 80)
    flat, resynthesized = espnet(SIGNALS[:1, None])
    assert flat.dtype == torch.int32 and flat.shape == (1, 50 * 4)
    assert (
        flat[0, :4].tolist() == (codes[0, 0] + torch.tensor([0, 16, 32, 48])).tolist()
    )
    assert torch.equal(resynthesized, audio[:1])
    assert torch.equal(espnet.detokenize(flat), resynthesized)
    assert torch.equal(espnet.detokenize(flat[0]), resynthesized[0])
    coarse = interfaces.ESPnetCodecTokenizer(tokenizer, max_token_per_frame=2)
    assert torch.equal(coarse.encode(SIGNALS[:1, None]), codes[:1, :, :2])
    assert coarse(SIGNALS[:1, None])[1] is None
    with pytest.raises(ShapeError, match=r"wavs must be \(B, 1, L\)"):
        espnet(SIGNALS)
    with pytest.raises(ShapeError, match=r"codes must be \(B, T \* 4\)"):
        espnet.detokenize(flat[:, 1:])
    with pytest.raises(ValueError, match="at least 0 and below"):
        espnet.detokenize(flat.flip(1))
    with pytest.raises(ConfigError, match=r"n_codebooks must be in \[1, 4\], got 0"):
        espnet.detokenize(flat, 0)
    with pytest.raises(ShapeError, match="got ndarray"):
        espnet(SIGNALS[:, None].numpy())


def test_a_yaml_file_names_an_interface(saved, expected):
    name = "sb_espnet_vq.tokenizer.interfaces.DASBTokenizer"
    dasb = load_hyperpyyaml(f"codec: !new:{name}\n    source: {saved}\n")["codec"]
    assert torch.equal(dasb.sig_to_tokens(SIGNALS, RELATIVE), expected[0])
    # Frozen, and not in training mode in a module that is trained.
    both = nn.ModuleDict({"codec": dasb, "head": nn.Linear(1, 1)}).train()
    assert both["head"].training and not any(
        m.training for m in dasb.tokenizer.modules()
    )
    assert [p for p in both.parameters() if p.requires_grad] == [
        *both["head"].parameters()
    ]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda codes: codes - 1, ValueError, "at least 0 and below"),
        (lambda codes: codes + 16, ValueError, "at least 0 and below"),
        (lambda codes: codes[0], ShapeError, r"\(B, T, K\) integers"),
        (lambda codes: codes.float(), ShapeError, "torch.float32"),
        (lambda codes: torch.cat([codes, codes], 2), ShapeError, r"K in \[1, 4\]"),
    ],
)
def test_tokens_that_are_none_are_refused(tokenizer, expected, change, error, message):
    tokens = change(expected[0])
    lobe, dasb = interfaces.DiscreteLobe(tokenizer), interfaces.DASBTokenizer(tokenizer)
    espnet = interfaces.ESPnetCodecTokenizer(tokenizer)
    calls = lobe.decode, lobe.embeddings, dasb.tokens_to_sig, espnet.decode
    for call in calls:
        with pytest.raises(error, match=message):
            call(tokens)


@pytest.mark.parametrize(
    ("lengths", "message"),
    [
        (SAMPLES, r"\(2,\) float, relative; got \(2,\) torch.int64"),
        (SAMPLES.float(), "must be relative"),
        (torch.tensor([1.0]), r"must be \(2,\) float"),
    ],
)
def test_lengths_that_are_not_relative_are_refused(tokenizer, lengths, message):
    with pytest.raises(ShapeError, match=message):
        interfaces.DASBTokenizer(tokenizer).sig_to_tokens(SIGNALS, lengths)


def test_the_last_frame_of_a_relative_length_is_decoded(tokenizer):
    # 2580 of 4000 samples are 32.25 frames of 80.
    lengths = torch.tensor([1.0, 0.645])
    lobe = interfaces.DiscreteLobe(tokenizer)
    tokens, _ = lobe.encode(SIGNALS, lengths)
    audio = lobe.decode(tokens, lengths)[1, 0]
    assert audio[32 * 80 : 33 * 80].abs().max() > 0
    assert audio[33 * 80 :].abs().max() == 0


def test_audio_of_several_channels_is_refused(tokenizer):
    lobe = interfaces.DiscreteLobe(tokenizer)
    for shape in ((2, 2, 4000), (2, 4000, 2)):
        with pytest.raises(ShapeError, match=r"inputs must be \(B, 1, L\) or \(B, L\)"):
            lobe.encode(torch.zeros(shape), RELATIVE)


def test_frames_without_codes_and_models_that_do_not_fit_are_refused(
    tokenizer, tmp_path
):
    broken = SIGNALS.clone()
    broken[1, 100] = torch.nan
    with pytest.raises(ShapeError, match=r"rows \[1\] have no codes"):
        interfaces.DASBTokenizer(tokenizer).sig_to_tokens(broken)
    conf = {"first_conf": {"codebook_size": 8}}
    save_run(tmp_path, "codec/fsdd", quantizer="split", quantizer_conf=conf)
    other = AudioTokenizer.from_run(tmp_path)
    assert other.codebook_sizes == (8, 16, 16, 16)
    # DASB's tokens may be of any codebooks, also in a dtype without -1.
    dasb = interfaces.DASBTokenizer(other)
    tokens = dasb.sig_to_tokens(SIGNALS, num_codebooks=[1, 2])
    assert tokens.max() >= 8
    audio = dasb.tokens_to_sig(tokens.byte(), num_codebooks=[1, 2])
    assert torch.equal(audio, dasb.tokens_to_sig(tokens, num_codebooks=[1, 2]))
    for name in ("DiscreteLobe", "ESPnetCodecTokenizer", "TransformersAudioTokenizer"):
        with pytest.raises(ConfigError, match=r"this model has \(8, 16, 16, 16\)"):
            getattr(interfaces, name)(other)
    with pytest.raises(AttributeError, match="no attribute 'Other'"):
        interfaces.Other  # noqa: B018


def test_an_encoder_is_not_decoded(tmp_path):
    save_run(tmp_path, "BEST-RQ/fsdd")
    dasb = interfaces.DASBTokenizer(tmp_path)
    tokens = dasb.sig_to_tokens(SIGNALS, RELATIVE)
    assert tokens.min() >= 0 and tokens.shape[2] == 1
    with pytest.raises(ConfigError, match="no decoder"):
        dasb.tokens_to_sig(tokens, RELATIVE)


def test_a_missing_package_is_named(monkeypatch):
    for package, name in (
        ("audiocodecs", "AudioCodecsCodec"),
        ("transformers", "TransformersAudioTokenizer"),
    ):
        module = interfaces._MODULES[name]
        full = f"sb_espnet_vq.tokenizer.interfaces.{module}"
        monkeypatch.delitem(sys.modules, full, raising=False)
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(ConfigError, match=f"pip install {package}"):
            getattr(interfaces, name)


def test_the_scripts_of_the_page_run(saved, tmp_path, monkeypatch, audiocodecs_package):
    page = Path(__file__).parents[2] / "docs" / "interfaces.md"
    scripts = re.findall(r"^```python\n(.*?)^```", page.read_text(), re.M | re.S)
    shutil.copytree(saved, tmp_path / "my_tokenizer")
    monkeypatch.chdir(tmp_path)
    found: list[dict] = [{} for _ in scripts]
    for script, scope in zip(scripts, found, strict=True):
        if "Transformers" not in script or importlib.util.find_spec("transformers"):
            exec(script, scope)
    lobe, dasb, audiocodecs, transformers, espnet = found
    assert lobe["emb"].shape == (2, 100, 2, 8) and lobe["audio"].shape == (2, 1, 8000)
    assert dasb["frames"].shape == (2, 100, 2, 8) and dasb["some"].shape == (2, 100, 2)
    assert torch.equal(dasb["tokens"][..., 0], dasb["some"][..., 0])
    assert audiocodecs["toks"].shape == (2, 100, 4)
    assert audiocodecs["rec"].shape == (2, 16000)
    if transformers:
        assert transformers["codes"].shape == (2, 4, 100)
        again = transformers["again"].encode(
            transformers["audio"], transformers["mask"]
        )
        assert torch.equal(again.audio_codes, transformers["codes"])
    assert espnet["flat"].shape == (2, 400) and espnet["codes"].max() < 16
    assert torch.equal(espnet["audio"], espnet["resyn_audio"])
