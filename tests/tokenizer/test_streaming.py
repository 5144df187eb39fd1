"""Chunks of a stream give the codes and the audio of the whole signal."""

import pytest
import torch

pytest.importorskip("speechbrain")
pytest.importorskip("safetensors")

from saved_runs import save_run

from sb_espnet_vq.codec.networks import ConvDecoder, ConvEncoder
from sb_espnet_vq.errors import ConfigError, ShapeError
from sb_espnet_vq.tokenizer import AudioTokenizer
from sb_espnet_vq.tokenizer.streaming import past_inputs

HOP = 80
SIGNALS = 0.3 * torch.randn(2, 2537, generator=torch.Generator().manual_seed(1))
# Of the codes that only rounding may change.
SAME = 0.99


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "codec"
    save_run(folder, "codec/fsdd", causal=True)
    return AudioTokenizer.from_run(folder)


@pytest.mark.parametrize("size", [1, HOP, 333, 2537])
def test_chunks_give_the_codes_of_the_whole(tokenizer, size):
    whole, lengths = tokenizer.encode(SIGNALS, n_codebooks=3, beam=2)
    encoder = tokenizer.streaming_encoder(n_codebooks=3, beam=2)
    for _ in range(2):
        codes = [encoder(chunk) for chunk in SIGNALS.split(size, 1)]
        assert sum(each.shape[1] for each in codes) == 2537 // HOP
        assert encoder._held.shape[1] < (encoder.context + 1) * HOP
        # The second round shows that a finished stream leaves nothing behind.
        codes = torch.cat([*codes, encoder.finish()], 1)
        assert codes.shape == whole.shape == (2, lengths[0], 3)
        assert (codes == whole).float().mean() >= SAME
    assert encoder.latency_ms == 10


@pytest.mark.parametrize("size", [1, 5, 32])
def test_chunks_give_the_audio_of_the_whole(tokenizer, size):
    codes, _ = tokenizer.encode(SIGNALS)
    whole = tokenizer.decode(codes)
    decoder = tokenizer.streaming_decoder()
    audio = [decoder(chunk) for chunk in codes.split(size, 1)]
    assert audio[0].shape == (2, min(size, 32) * HOP)
    assert decoder._held.shape[1] <= decoder.context
    assert torch.allclose(torch.cat(audio, 1), whole, atol=1e-5)
    assert whole.abs().max() > 0.01


@pytest.mark.parametrize(
    ("network", "stride"),
    [(ConvEncoder, 1), (ConvDecoder, 20)],
    ids=["encode", "decode"],
)
def test_the_context_is_exactly_what_a_network_sees(network, stride):
    torch.manual_seed(0)
    sizes = {"dim": 4, "channels": 4, "ratios": (4, 5), "residual_units": 2}
    net = network(**sizes, causal=True).double()
    shape = (1, 600) if stride == 1 else (1, 30, 4)
    x = torch.randn(shape, dtype=torch.float64).requires_grad_()
    # Frame 20, or its first sample, and the inputs that it depends on.
    net(x)[:, 20 * stride].sum().backward()
    used = x.grad[0].reshape(x.shape[1], -1).abs().sum(1).nonzero().flatten()
    assert used.min() == (400 - past_inputs(net, stride)) // stride
    assert used.max() == (419 if stride == 1 else 20)


def test_what_is_no_stream_of_a_causal_codec_is_refused(tokenizer, tmp_path):
    encoder, decoder = tokenizer.streaming_encoder(), tokenizer.streaming_decoder()
    with pytest.raises(ShapeError, match="no chunk"):
        encoder.finish()
    assert encoder(SIGNALS[:, :0]).shape == (2, 0, 4)
    held = encoder(SIGNALS[:, :100])
    for wrong in (SIGNALS[:1], SIGNALS[0], SIGNALS.long()):
        with pytest.raises(ShapeError, match="with B = 2 as before"):
            encoder(wrong)
    # A refused chunk changes nothing.
    rest = encoder(SIGNALS[:, 100:])
    codes = torch.cat([held, rest, encoder.finish()], 1)
    assert (codes == tokenizer.encode(SIGNALS)[0]).float().mean() >= SAME
    assert decoder(codes[:, :0]).shape == (2, 0)
    first = decoder(codes[:, :9])
    with pytest.raises(ShapeError, match=r"\(B, K\) = \(2, 4\) as before"):
        decoder(codes[..., :2])
    with pytest.raises(ValueError, match="codes must lie in"):
        decoder(codes + 16)
    audio = torch.cat([first, decoder(codes[:, 9:])], 1)
    assert torch.allclose(audio, tokenizer.decode(codes), atol=1e-5)
    with pytest.raises(ConfigError, match="n_codebooks must be in"):
        tokenizer.streaming_encoder(n_codebooks=5)
    save_run(tmp_path / "centred", "codec/fsdd")
    with pytest.raises(ConfigError, match="not causal; train it with causal: true"):
        AudioTokenizer.from_run(tmp_path / "centred").streaming_encoder()
