"""Codecs of transformers as tokenizers with our quantizer, and back."""

import json

import pytest
import torch

from sb_espnet_vq.cli.main import main
from sb_espnet_vq.errors import CheckpointError, ConfigError
from sb_espnet_vq.tokenizer.import_source import import_source

safetensors_torch = pytest.importorskip("safetensors.torch")
pytest.importorskip("huggingface_hub")
soundfile = pytest.importorskip("soundfile")
transformers = pytest.importorskip("transformers")

from sb_espnet_vq.tokenizer import AudioTokenizer  # noqa: E402

COMMON = {"codebook_size": 32, "sampling_rate": 8000}
CONVOLUTIONS = {"hidden_size": 16, "num_filters": 4, "upsampling_ratios": [4, 5]}


def _encodec():
    config = transformers.EncodecConfig(
        codebook_dim=16, num_lstm_layers=1, target_bandwidths=[8.0, 16.0],
        **COMMON, **CONVOLUTIONS,
    )  # fmt: skip
    return transformers.EncodecModel(config)


def _dac():
    sizes = {"encoder_hidden_size": 4, "decoder_hidden_size": 16, "n_codebooks": 4}
    config = transformers.DacConfig(downsampling_ratios=[4, 5], **sizes, **COMMON)
    return transformers.DacModel(config)


def _mimi():
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 8}
    config = transformers.MimiConfig(
        codebook_dim=8, vector_quantization_hidden_dimension=8, num_quantizers=4,
        num_hidden_layers=1, intermediate_size=16, upsample_groups=16,
        sliding_window=20, **heads, **COMMON, **CONVOLUTIONS,
    )  # fmt: skip
    return transformers.MimiModel(config)


@pytest.fixture(
    scope="module", params=[_encodec, _dac, _mimi], ids=lambda f: f.__name__
)
def codec(request, tmp_path_factory):
    torch.manual_seed(0)
    model = request.param().eval()
    for name, buffer in model.quantizer.named_buffers():
        if buffer.dim() == 2:
            buffer.normal_()
        elif "usage" in name:
            buffer.uniform_(0.5, 3)
    folder = tmp_path_factory.mktemp("codec")
    model.save_pretrained(folder / "theirs")
    assert main(["import", str(folder / "theirs"), str(folder / "ours")]) == 0
    return model, folder, AudioTokenizer.from_pretrained(folder / "ours")


def _theirs(model, signals):
    """Return the codes (B, K, T) and the audio (B, L) of the model itself."""
    call = {"bandwidth": 16.0} if model.config.model_type == "encodec" else {}
    with torch.no_grad():
        encoded = model.encode(signals[:, None], **call).audio_codes
        if call:
            return encoded[0], model.decode(encoded, [None])[0][:, 0]
        audio = model.decode(audio_codes=encoded)[0]
    return encoded, audio.reshape(len(signals), -1)


def test_codes_and_audio_are_those_of_the_model(codec):
    model, _, tokenizer = codec
    signals = 0.1 * torch.randn(2, 2000)
    codes, lengths = tokenizer.encode(signals)
    expected, audio = _theirs(model, signals)
    assert torch.equal(codes.transpose(1, 2), expected)
    assert lengths.tolist() == [codes.shape[1]] * 2
    assert codes.unique().numel() > 10
    own = tokenizer.decode(codes)
    assert own.shape == (2, 2000)
    used = min(own.shape[1], audio.shape[1])
    # Strides that are odd: the model returns less.
    assert used >= 1990
    torch.testing.assert_close(own[:, :used], audio[:, :used], rtol=0, atol=1e-5)
    assert tokenizer.sample_rate == 8000


def test_back_to_an_identical_state_dict(codec):
    model, folder, _ = codec
    back = folder / "back"
    assert main(["export", str(folder / "ours"), str(back), "--to", "original"]) == 0
    again = type(model).from_pretrained(back)
    before, after = model.state_dict(), again.state_dict()
    assert list(before) == list(after)
    for key, value in before.items():
        assert torch.equal(value, after[key]), key
    assert again.config.to_diff_dict().items() >= model.config.to_diff_dict().items()


def test_tokens_and_decode_of_files(codec, tmp_path):
    _, folder, tokenizer = codec
    signal = 0.1 * torch.randn(1210)
    soundfile.write(tmp_path / "a.wav", signal.numpy(), 8000)
    ours, tokens = str(folder / "ours"), str(tmp_path / "tokens")
    assert main(["tokens", ours, str(tmp_path / "a.wav"), "--out", tokens]) == 0
    assert main(["decode", ours, tokens, "--out", str(tmp_path / "audio")]) == 0
    audio, rate = soundfile.read(tmp_path / "audio" / "a.wav")
    assert len(audio) == 1210 and rate == 8000


def test_other_folders_are_refused(codec, tmp_path):
    model, _, _ = codec
    model.save_pretrained(tmp_path)
    file = tmp_path / "config.json"
    good = json.loads(file.read_text())
    for change, reason in (
        ({"auto_map": {"AutoModel": "code--of.a.Stranger"}}, "no option 'auto_map'"),
        ({"sampling_rate": "a.b"}, "sampling_rate"),
        ({"codebook_size": 64}, "cannot be read|mismatched"),
    ):
        file.write_text(json.dumps({**good, **change}))
        with pytest.raises((ConfigError, CheckpointError), match=reason):
            import_source(tmp_path, tmp_path / "out")
    file.write_text(json.dumps(good))
    weights = tmp_path / "model.safetensors"
    whole = weights.read_bytes()
    tensors = safetensors_torch.load_file(weights)
    dropped = next(key for key in tensors if key.startswith("encoder."))
    others = {key: value for key, value in tensors.items() if key != dropped}
    safetensors_torch.save_file(others, weights, {"format": "pt"})
    with pytest.raises(CheckpointError, match="missing tensor encoder"):
        import_source(tmp_path, tmp_path / "out")
    weights.write_bytes(whole[:-100])
    with pytest.raises(CheckpointError, match="cannot be read"):
        import_source(tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("codec", [_mimi], indirect=True)
def test_options_of_older_configurations(codec, tmp_path):
    model, _, tokenizer = codec
    model.save_pretrained(tmp_path)
    file = tmp_path / "config.json"
    config = json.loads(file.read_text())
    theta = config.pop("rope_parameters")["rope_theta"]
    old = {"rope_theta": theta, "normalize": False, "frame_rate": 12.5}
    file.write_text(json.dumps(config | old))
    import_source(tmp_path, tmp_path / "out")
    again = AudioTokenizer.from_pretrained(tmp_path / "out")
    signal = 0.1 * torch.randn(1, 900)
    assert torch.equal(again.encode(signal)[0], tokenizer.encode(signal)[0])


def test_a_saved_configuration_imports_nothing_else(codec):
    _, _, tokenizer = codec
    options = tokenizer.config["options"]
    for change in (
        {"architecture": "clip"},
        {"config": {**options["config"], "auto_map": {"AutoModel": "a"}}},
        {"quantizer": "os.path"},
    ):
        config = {**tokenizer.config, "options": {**options, **change}}
        with pytest.raises(ConfigError, match="architecture|auto_map|plain word"):
            AudioTokenizer(config)


def test_codecs_in_pieces_are_refused(tmp_path):
    torch.manual_seed(0)
    model = _encodec()
    model.config.normalize = True
    model.save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="normalize must be False"):
        import_source(tmp_path, tmp_path / "out")


def test_folder_of_wav2vec2(tmp_path):
    from sb_espnet_vq.tokenizer.quantizer_folder import load_quantizer

    config = transformers.Wav2Vec2Config(
        hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8,
        conv_dim=[8, 8], conv_stride=[2, 2], conv_kernel=[2, 2], codevector_dim=6,
        num_codevector_groups=3, num_codevectors_per_group=5, proj_codevector_dim=4,
        num_conv_pos_embeddings=4, num_conv_pos_embedding_groups=1,
    )  # fmt: skip
    transformers.Wav2Vec2ForPreTraining(config).save_pretrained(tmp_path / "theirs")
    import_source(tmp_path / "theirs", tmp_path / "ours")
    q = load_quantizer(tmp_path / "ours")
    assert q.codebook_sizes == (5, 5, 5) and q.dim == 8
