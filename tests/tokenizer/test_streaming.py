"""Chunks of a stream give the codes and the audio of the whole signal."""

import pytest
import torch

pytest.importorskip("speechbrain")
pytest.importorskip("safetensors")

from saved_runs import save_run

from sb_espnet_vq.errors import ConfigError, ShapeError
from sb_espnet_vq.tokenizer import AudioTokenizer

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
        # What the layers keep: the first convolution 6 samples, the last 6 frames.
        kept = [each.held.shape[2] for each in encoder._layers[1:]]
        assert kept == [6, 2, 4, 2, 4, 2, 5, 6] and encoder._rest.shape[1] < HOP
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
    assert [each.past for each in decoder._layers] == [6, 1, 2, 1, 2, 1, 2, 6]
    assert torch.allclose(torch.cat(audio, 1), whole, atol=1e-5)
    assert whole.abs().max() > 0.01


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
    rest = encoder(SIGNALS[:, 100:].double())
    codes = torch.cat([held, rest, encoder.finish()], 1)
    assert (codes == tokenizer.encode(SIGNALS.double())[0]).float().mean() >= SAME
    assert decoder(codes[:, :0]).shape == (2, 0)
    first = decoder(codes[:, :9])
    with pytest.raises(ShapeError, match=r"with \(B, K\) = \(2, 4\)"):
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
