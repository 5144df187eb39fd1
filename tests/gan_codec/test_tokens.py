"""Codec attributes that ESPnet reads are consistent with its codes."""

import pytest
import torch
from espnet2.bin.gan_codec_inference import AudioCoding
from espnet2.mt.frontend.embedding import CodecEmbedding
from saved_codecs import STOCK, save, swapped
from tiny_codecs import codec_conf, frames_of, pairs, streams_of

from sb_espnet_vq import list_quantizers
from sb_espnet_vq.gan_codec.codecs import CODECS
from sb_espnet_vq.gan_codec.quantizers import CodecQuantizer
from sb_espnet_vq.gan_codec.shared.quantizer.residual_vq import ResidualVectorQuantizer

NAMES = (
    "rvq",
    "gumbel",
    "random_projection",
    "residual",
    "grouped",
    "split",
    "warm_start",
)
SEVERAL = dict.fromkeys(NAMES, 4)
pytestmark = [
    pytest.mark.filterwarnings("ignore:a bandwidth of"),
    pytest.mark.filterwarnings("ignore::UserWarning:torch|espnet2"),
]


def tokens_of(coding, wave):
    """Number the codes of all codebooks consecutively, frame by frame."""
    meta = coding.model.meta_info()
    sizes = meta["code_size_per_stream"]
    assert len(sizes) == meta["num_streams"]
    codes = coding(wave)["codes"]
    starts = torch.tensor([sum(sizes[:k]) for k in range(len(sizes))])
    return (codes.permute(1, 2, 0) + starts).flatten()


def codes_of(coding, tokens):
    """Undo `tokens_of`; a number of another codebook gives a code out of range."""
    sizes = coding.model.meta_info()["code_size_per_stream"]
    starts = torch.tensor([sum(sizes[:k]) for k in range(len(sizes))])
    codes = tokens.view(1, -1, len(sizes)) - starts
    assert ((codes >= 0) & (codes < torch.tensor(sizes))).all()
    return codes.permute(2, 0, 1)


def check_round_trip(files, number):
    coding = AudioCoding(*map(str, files))
    wave = torch.randn(800) * 0.1
    out = coding(wave)
    assert len(out["codes"]) == number
    again = codes_of(coding, tokens_of(coding, wave))
    assert torch.equal(again, out["codes"])
    assert torch.equal(coding.decode(again)["resyn_audio"].view(-1), out["resyn_audio"])


@pytest.mark.parametrize(
    ("codec", "quantizer_name"),
    [(codec[3:], name) for codec, name in pairs() if codec[3:] in STOCK],
)
def test_a_swapped_codec_round_trips(codec, quantizer_name, tmp_path):
    with swapped(quantizer_name):
        check_round_trip(save(tmp_path, codec), SEVERAL.get(quantizer_name, 1))


@pytest.mark.parametrize(("codec", "quantizer_name"), pairs())
def test_a_codec_by_name_round_trips(codec, quantizer_name, tmp_path):
    files = save(tmp_path, codec, quantizer=quantizer_name)
    check_round_trip(files, streams_of(codec, SEVERAL.get(quantizer_name, 1)))


@pytest.mark.parametrize("codec", STOCK)
def test_sizes_are_those_of_the_current_quantizer(codec):
    conf = codec_conf(f"vq_{codec}")
    stock = STOCK[codec](**conf)
    reported = {"num_streams": 4, "code_size_per_stream": [16] * 4}
    assert reported.items() <= stock.meta_info().items()
    with swapped("bsq,codebook_size=64"):
        other = STOCK[codec](**conf)
    # One quantizer is replaced manually.
    stock.generator.quantizer = CodecQuantizer(8, n_q=2, bins=64, quantizer="vq")
    for each in (stock, other):
        assert (each.num_streams, each.code_size_per_stream) == (1, [64])
        meta = each.meta_info()
        assert (meta["num_streams"], meta["code_size_per_stream"]) == (1, [64])


# ---------------------------------------------------------------------- embeddings


@pytest.mark.parametrize("quantizer_name", list_quantizers())
def test_codebook_dim_is_the_width_of_what_decode_returns(quantizer_name):
    codes = torch.zeros(1, 2, 3, dtype=torch.int64)
    for width in (8, 4, 512):
        q = CodecQuantizer(8, width, n_q=4, bins=16, quantizer=quantizer_name)
        assert q.codebook_dim == q.decode(codes).shape[1] == 8


@pytest.mark.parametrize(("codec", "quantizer_name"), pairs())
def test_embeddings_of_codes_are_built(codec, quantizer_name, monkeypatch, tmp_path):
    coding = AudioCoding(*map(str, save(tmp_path, codec, quantizer=quantizer_name)))
    monkeypatch.setattr(AudioCoding, "from_pretrained", lambda **_: coding)
    number = streams_of(codec, SEVERAL.get(quantizer_name, 1))
    embed = CodecEmbedding(200, "a model", token_bias=2, token_per_frame=number)
    tokens = tokens_of(coding, torch.randn(400) * 0.1)[None] + 2
    embedded, lengths = embed(tokens, torch.tensor([tokens.shape[1]]))
    frames = frames_of(codec, 400)
    assert embedded.shape == (1, frames, embed.output_size()) and lengths == frames


# --------------------------------------------------------------------- bad recordings


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("quantizer_name", list_quantizers())
def test_a_recording_that_is_not_finite_is_refused(quantizer_name, value):
    torch.manual_seed(0)
    named = CODECS["vq_soundstream"](
        **codec_conf("vq_soundstream", quantizer=quantizer_name)
    )
    with swapped(quantizer_name):
        stock = STOCK["soundstream"](**codec_conf("vq_soundstream"))
    wave = torch.randn(2, 1, 400) * 0.1
    wave[1, 0, 160] = value
    for codec in (named.eval(), stock.eval()):
        with pytest.raises(ValueError, match=r"of utterance 1.*skip the recording"):
            codec.encode(wave)
        assert codec.encode(wave[:1]).min() >= 0


def test_the_first_bad_frame_is_named():
    q = ResidualVectorQuantizer(8, 8, n_q=2, bins=16)
    x = torch.randn(2, 8, 5)
    x[1, 3, 2:4] = float("nan")
    words = "2 of 10 frames are NaN or infinite, the first of them frame 2 of utterance"
    with pytest.raises(ValueError, match=words):
        q.encode(x, 50)
