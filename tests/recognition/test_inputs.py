"""What a recognizer gets of encoders and tokens."""

import pytest
import torch
from torch.testing import assert_close

pytest.importorskip("speechbrain")
pytest.importorskip("huggingface_hub")
soundfile = pytest.importorskip("soundfile")

from saved_runs import save_run  # noqa: E402

from sb_espnet_vq.errors import ConfigError  # noqa: E402
from sb_espnet_vq.recognition.inputs import make_input  # noqa: E402
from sb_espnet_vq.recognition.model import Recognizer  # noqa: E402
from sb_espnet_vq.tokenizer import AudioTokenizer  # noqa: E402
from sb_espnet_vq.utils.speech_batch import SpeechBatch  # noqa: E402

LONG, SHORT = 8000, 5000


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    for name in ("BEST-RQ/fsdd", "wav2vec2/fsdd", "wav2vec2/fsdd_waveform"):
        save_run(folder / name, name)
    save_run(folder / "wav2vec2/layers", "wav2vec2/fsdd", num_encoder_layers=3)
    save_run(folder / "codec/fsdd", "codec/fsdd", n_codebooks=3)
    return folder


def input_of(run, **more):
    return make_input(None, 8, pretrained=str(run), **more)


def signals():
    generator = torch.Generator().manual_seed(3)
    return 0.3 * torch.randn(2, LONG, generator=generator)


ENCODERS = ["BEST-RQ/fsdd", "wav2vec2/fsdd", "wav2vec2/fsdd_waveform"]


@pytest.mark.parametrize("name", ENCODERS)
def test_frozen_frames_are_the_output_of_the_encoder(runs, name):
    tokenizer = AudioTokenizer.from_run(runs / name)
    expected, lengths = tokenizer.features(signals())
    source = input_of(runs / name).train()
    frames, counts = source(signals(), torch.tensor([LONG, LONG]))
    assert counts.tolist() == lengths.tolist()
    assert_close(frames[:, : lengths[0]], expected)
    assert frames.shape[2] == source.width and not frames.requires_grad
    # A shorter row has the frames of its own length.
    _, counts = source(signals(), torch.tensor([LONG, SHORT]))
    _, lengths = tokenizer.features(signals()[1:, :SHORT])
    assert counts[1] == lengths[0]


@pytest.mark.parametrize("name", ENCODERS)
def test_fine_tuning_trains_what_the_output_depends_on(runs, name):
    source = input_of(runs / name, encoder_use="fine_tuned").train()
    frames, _ = source(signals(), torch.tensor([LONG, SHORT]))
    frames.square().mean().backward()
    trained = [n for n, p in source.named_parameters() if p.requires_grad]
    assert len(trained) > 10
    assert all(p.grad is not None for p in source.parameters() if p.requires_grad)
    assert not any("quanti" in name or "mask_emb" in name for name in trained)


@pytest.mark.parametrize(
    ("name", "layers"), [("BEST-RQ/fsdd", 2), ("wav2vec2/layers", 3)]
)
def test_a_weighted_sum_trains_a_weight_for_each_layer(runs, name, layers):
    source = input_of(runs / name, encoder_use="weighted_sum").train()
    frames, _ = source(signals(), torch.tensor([LONG, SHORT]))
    frames[..., 0].sum().backward()
    trained = [p for p in source.parameters() if p.requires_grad]
    assert [p.shape for p in trained] == [source.weights.shape]
    assert source.weights.grad.abs().min() > 0
    assert len(source.weights) == layers


def test_a_sum_of_one_layer_is_refused(runs):
    with pytest.raises(ConfigError, match="needs the outputs of several layers"):
        input_of(runs / "wav2vec2/fsdd", encoder_use="weighted_sum")


def test_untrained_weights_are_new_and_statistics_are_not(runs):
    run = runs / "BEST-RQ/fsdd"
    trained, fresh = input_of(run), input_of(run, untrained=True)
    assert fresh.model.mean.any()
    assert_close(fresh.model.mean, trained.model.mean)
    weights = dict(trained.model.encoder.named_parameters())
    same = [
        torch.equal(weights[name], p)
        for name, p in fresh.model.encoder.named_parameters()
        if p.dim() > 1
    ]
    assert same and not any(same)


def test_the_mode_of_training_leaves_feature_statistics(runs):
    source = input_of(runs / "BEST-RQ/fsdd", encoder_use="fine_tuned").train()
    before = source.model.mean.clone()
    source(signals(), torch.tensor([LONG, LONG]))
    assert_close(source.model.mean, before)
    assert source.model.normalize.count == 0


def test_tokens_are_read_once_and_embedded_by_codebook(runs, tmp_path):
    soundfile.write(tmp_path / "a.wav", signals()[0].numpy(), 8000)
    options = {"token_codebooks": 2, "token_embedding": "learned"}
    source = make_input(None, 8, tokens=str(runs / "codec/fsdd"), **options)
    codes = source.read(tmp_path / "a.wav", 8000)
    whole = AudioTokenizer.from_run(runs / "codec/fsdd").encode_file(tmp_path / "a.wav")
    assert torch.equal(codes, whole[:, :2])
    frames, lengths = source(codes[None], torch.tensor([len(codes)]))
    assert lengths.tolist() == [len(codes)]
    # The second codebook has rows of its own, after the 16 and one of the first.
    table = source.frames.table.weight
    expected = table[codes[:, 0] + 1] + table[codes[:, 1] + 18]
    assert_close(frames[0], expected)
    none = source(torch.full((1, 1, 2), -1), torch.tensor([1]))[0]
    assert_close(none[0, 0], table[0] + table[17])


@pytest.mark.parametrize("count", [1, 3])
def test_the_values_of_a_codebook_are_normalized_and_not_trained(runs, count):
    run = str(runs / "codec/fsdd")
    source = make_input(None, 8, tokens=run, token_codebooks=count).train()
    codes = torch.randint(16, (2, 50, count))
    codes[0, 3] = -1
    samples = torch.tensor([50, 7])
    source.gather([SpeechBatch(["a", "b"], codes, samples)])
    quantizer = AudioTokenizer.from_run(run).model.quantizer
    values = quantizer.decode(torch.cat([codes[0], codes[1, :7]]))
    expected = (values - values.mean(0)) / values.std(0, correction=0)
    frames, _ = source(codes, samples)
    assert_close(frames[0], source.frames.linear(expected[:50]))
    frames.square().sum().backward()
    trained = [n for n, p in source.named_parameters() if p.grad is not None]
    assert trained == ["frames.linear.weight", "frames.linear.bias"]
    # A run that is resumed has the statistics of its checkpoint.
    fresh = make_input(None, 8, tokens=run, token_codebooks=count)
    fresh.load_state_dict(source.state_dict())
    assert_close(fresh(codes, samples)[0], frames)


@pytest.mark.parametrize("name", ["BEST-RQ/fsdd", "wav2vec2/fsdd"])
def test_targets_of_pretraining_have_values(runs, name):
    source = make_input(None, 8, tokens=str(runs / name))
    codes = source.prepare(signals()[0])[None]
    frames, _ = source(codes, torch.tensor([codes.shape[1]]))
    assert frames.isfinite().all() and frames.std() > 0


def test_frames_of_tokens_are_stacked_without_those_of_the_padding(runs):
    run = str(runs / "codec/fsdd")
    plain = make_input(None, 8, tokens=run)
    stacked = make_input(None, 8, tokens=run, token_stack=3)
    stacked.load_state_dict(plain.state_dict())
    codes = torch.randint(16, (2, 7, 3))
    frames, lengths = stacked(codes, torch.tensor([7, 4]))
    assert lengths.tolist() == [3, 2] and frames.shape == (2, 3, stacked.width)
    single, _ = plain(codes, torch.tensor([7, 4]))
    assert_close(frames[0, :2].reshape(6, 8), single[0, :6])
    alone, _ = stacked(codes[1:, :4], torch.tensor([4]))
    assert_close(frames[1, :2], alone[0])
    assert not frames[1, 1, 8:].any()


def test_a_codec_has_no_pretrained_encoder(runs):
    with pytest.raises(ConfigError, match="has no pretrained encoder"):
        input_of(runs / "codec/fsdd")


def test_padding_changes_no_output_of_the_recognizer():
    recognizer = Recognizer(6, 5, hidden_size=4, num_layers=2)
    frames = torch.randn(2, 9, 6)
    lengths = torch.tensor([9, 4])
    out = recognizer(frames, lengths)
    alone = recognizer(frames[1:, :4], lengths[1:])
    assert_close(out[1, :4], alone[0])
    assert_close(out.exp().sum(-1), torch.ones(2, 9))
