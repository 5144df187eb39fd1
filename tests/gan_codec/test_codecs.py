"""Every ESPnet codec with every quantizer, through ESPnet's own programs."""

import copy
import math
from contextlib import nullcontext

import numpy as np
import pytest
import soundfile
import torch
import yaml
from espnet2.bin import gan_codec_inference, gan_codec_train
from espnet2.gan_codec.dac.dac import DAC
from espnet2.gan_codec.encodec.encodec import Encodec
from espnet2.gan_codec.funcodec.funcodec import FunCodec
from espnet2.gan_codec.hificodec.hificodec import HiFiCodec
from espnet2.gan_codec.soundstream.soundstream import SoundStream
from espnet2.utils.get_default_kwargs import get_default_kwargs
from tiny_codecs import HOP, RATE, codec_conf, frames_of, pairs, streams_of

from sb_espnet_vq import ConfigError, ShapeError, list_quantizers
from sb_espnet_vq.gan_codec import task
from sb_espnet_vq.gan_codec.codecs import CODECS
from sb_espnet_vq.gan_codec.quantizers import CodecQuantizer

STOCK = (SoundStream, Encodec, DAC, FunCodec, HiFiCodec)
FRAME_RATE = RATE / HOP
# Codebooks of a quantizer at 4 and 16 kbit/s; one of 16 codes costs 4 kbit/s.
SEVERAL = (
    "rvq",
    "gumbel",
    "random_projection",
    "residual",
    "grouped",
    "split",
    "warm_start",
)
USED = dict.fromkeys(SEVERAL, (1, 4))
# ESPnet's inference passes its --target_bandwidth to the other codecs alone.
ONE_RATE = {"vq_funcodec", "vq_hificodec"}


def build(codec, **more):
    torch.manual_seed(0)
    return CODECS[codec](**codec_conf(codec, **more))


@pytest.fixture(scope="module")
def speech(tmp_path_factory):
    """Four sounds of 0.2 s in Kaldi's style."""
    folder = tmp_path_factory.mktemp("speech")
    generator = np.random.default_rng(0)
    time = np.arange(1600) / RATE
    scp, shapes = [], []
    for n in range(4):
        tone = np.sin(2 * math.pi * (200 + 100 * n) * time)
        wave = 0.3 * tone + 0.02 * generator.standard_normal(len(time))
        soundfile.write(folder / f"s{n}.wav", wave, RATE)
        scp.append(f"s{n} {folder}/s{n}.wav")
        shapes.append(f"s{n} {len(time)}")
    (folder / "wav.scp").write_text("\n".join(scp) + "\n")
    (folder / "shape").write_text("\n".join(shapes) + "\n")
    return folder


def train_configuration(codec, iterator=None, **conf):
    """One epoch of two steps, and validation."""
    return {
        "codec": codec,
        "codec_conf": codec_conf(codec, **conf),
        "optim": "adam",
        "optim2": "adam",
        "generator_first": True,
        # Each turn of a GAN leaves out the parameters of the other.
        "unused_parameters": True,
        "batch_type": "unsorted",
        "batch_size": 2,
        **(iterator or {"iterator_type": "sequence"}),
        "max_epoch": 1,
        "keep_nbest_models": 1,
        "num_workers": 0,
        "ngpu": 0,
        "use_tensorboard": False,
        "log_level": "ERROR",
    }


def train(speech, out, codec, **conf):
    """Run ESPnet's training."""
    config = train_configuration(codec, **conf)
    (out / "train.yaml").write_text(yaml.safe_dump(config))
    gan_codec_train.main(train_arguments(speech, out))


def train_arguments(speech, out):
    data = f"{speech}/wav.scp,audio,sound"
    return [
        *("--config", f"{out}/train.yaml", "--output_dir", f"{out}/exp"),
        *("--train_data_path_and_name_and_type", data),
        *("--valid_data_path_and_name_and_type", data),
        *("--train_shape_file", f"{speech}/shape"),
        *("--valid_shape_file", f"{speech}/shape"),
    ]


def infer(speech, out, bandwidth):
    target = out / f"at_{bandwidth}"
    gan_codec_inference.main(
        [
            *("--output_dir", f"{target}", "--log_level", "ERROR"),
            *("--train_config", f"{out}/exp/config.yaml"),
            *("--model_file", f"{out}/exp/latest.pth"),
            *("--data_path_and_name_and_type", f"{speech}/wav.scp,audio,sound"),
            *("--target_bandwidth", str(bandwidth), "--num_workers", "0"),
        ]
    )
    return target


@pytest.mark.parametrize(("codec", "quantizer_name"), pairs())
def test_trains_and_infers(codec, quantizer_name, speech, tmp_path):
    train(speech, tmp_path, codec, quantizer=quantizer_name)
    saved = (tmp_path / "exp/config.yaml").read_text()
    assert "needs_sb_espnet_vq: import sb_espnet_vq.gan_codec\n" in saved
    model, _ = task.VQGANCodecTask.build_model_from_file(
        tmp_path / "exp/config.yaml", tmp_path / "exp/latest.pth", "cpu"
    )
    model.eval()
    meta = model.meta_info()
    used = USED.get(quantizer_name, (1, 1))
    streams = streams_of(codec, used[1])
    assert meta["num_streams"] == streams and meta["frame_shift"] == HOP
    assert meta["code_size_per_stream"] == [16] * streams
    if codec in ONE_RATE:
        used = used[1:] * 2
    for bandwidth, number in zip((4.0, 16.0), used, strict=True):
        with (
            pytest.warns(UserWarning, match="cannot be met")
            if used[1] == 1 and (bandwidth > 4 or codec in ONE_RATE)
            else nullcontext()
        ):
            written = infer(speech, tmp_path, bandwidth)
        for key in ("s0", "s3"):
            codes = torch.from_numpy(np.load(written / f"codec/{key}.npy"))
            shape = (streams_of(codec, number), 1, frames_of(codec, 1600))
            assert codes.shape == shape
            assert codes.dtype == torch.int64
            assert int(codes.min()) >= 0 and int(codes.max()) < 16
            with torch.no_grad():
                decoded = model.decode(codes).view(-1).clamp(-1, 1).numpy()
            wave, rate = soundfile.read(written / f"wav/{key}.wav", dtype="float32")
            assert rate == RATE
            # The file holds 16 bits.
            np.testing.assert_allclose(wave, decoded, atol=2 / 2**15)


@pytest.mark.parametrize("codec", CODECS)
def test_defaults_are_those_of_espnet_and_documented(codec):
    # What --print_config writes under codec_conf.
    shown = get_default_kwargs(CODECS[codec])
    assert shown["quantizer"] == "rvq" and shown["quantizer_conf"] == {}
    assert shown["generator_params"]["quantizer_bins"] == 1024
    assert shown["needs_sb_espnet_vq"] == "import sb_espnet_vq.gan_codec"
    # What is shown can be built, and so can the defaults themselves.
    for conf in (shown, {}):
        streams = CODECS[codec](**conf).meta_info()["num_streams"]
        assert streams == streams_of(codec, 8)


@pytest.mark.parametrize("codec", CODECS)
def test_configurations_are_left_alone(codec):
    conf = codec_conf(codec, quantizer="vq", quantizer_conf={"decay": 0.5})
    before = copy.deepcopy(conf)
    CODECS[codec](**conf)
    assert conf == before


def spread_frames(codec, audio):
    # The frames of an untrained encoder are nearly identical, so that both searches
    # would discriminate them only by rounding.
    encoder = codec.generator.encoder
    for name, weight in encoder.named_parameters():
        if name.endswith("original0"):
            weight.data *= 3
    if isinstance(codec, HiFiCodec):
        encoder.conv_post.weight.data *= 10
        encoder.conv_post.bias.data -= encoder(audio[:, None]).mean((0, 2)).detach()


@pytest.mark.parametrize(("codec", "stock"), [*zip(CODECS, STOCK, strict=True)])
def test_stock_checkpoints_load_and_give_the_same_codes(codec, stock):
    torch.manual_seed(0)
    theirs = stock(**codec_conf(codec))
    audio = torch.randn(2, 1600) * 0.1
    spread_frames(theirs, audio)
    # Starts and moves the codebooks, so that there is something to carry over.
    theirs.train()(audio)
    mine = build(codec)
    mine.load_state_dict(theirs.state_dict(), strict=True)
    theirs.eval(), mine.eval()
    with torch.no_grad():
        for bandwidth in (None,) if codec in ONE_RATE else (None, 4.0, 12.0):
            # HiFi-Codec decodes single signals, with the groups on the batch axis.
            for x in audio[:, None].split(1):
                codes = mine.encode(x, target_bw=bandwidth)
                expected = theirs.encode(x, target_bw=bandwidth)
                assert torch.equal(codes, expected.reshape(codes.shape))
                decoded = theirs.decode(expected)
                torch.testing.assert_close(mine.decode(codes), decoded)
        x = audio[:, None]
        assert torch.equal(mine.encode(x)[:, :1], mine.encode(x[:1]))
    again = stock(**codec_conf(codec))
    again.load_state_dict(mine.state_dict(), strict=True)


@pytest.mark.parametrize(("codec", "stock"), [*zip(CODECS, STOCK, strict=True)])
def test_a_seed_gives_the_codec_of_espnet(codec, stock):
    torch.manual_seed(0)
    theirs = stock(**codec_conf(codec)).state_dict()
    mine = build(codec).state_dict()
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[key], theirs[key]) for key in theirs)


def test_bad_configurations_are_refused():
    with pytest.raises(ConfigError, match="no quantizer 'bqs'|bqs"):
        build("vq_soundstream", quantizer="bqs")
    with pytest.raises(ConfigError, match="decai"):
        build("vq_soundstream", quantizer="vq", quantizer_conf={"decai": 1})
    with pytest.raises(ConfigError, match="decai"):
        build("vq_soundstream", quantizer="rvq", quantizer_conf={"decai": 1})
    with pytest.raises(ConfigError, match="power of two"):
        build("vq_dac", quantizer="bsq", quantizer_conf={"codebook_size": 1000})
    codec = build("vq_soundstream").eval()
    with pytest.raises(ConfigError, match="bandwidth must be a number"):
        codec.encode(torch.randn(1, 1, 80), target_bw="wide")
    with pytest.raises(ShapeError, match="multiple of 8 samples"):
        codec(torch.randn(1, 1601))
    with pytest.raises(ShapeError, match="audio to encode is empty"):
        codec.encode(torch.zeros(1, 1, 0))


@pytest.mark.parametrize("other", ["rvq", "vq", "random_projection"])
def test_a_checkpoint_of_another_quantizer_is_refused(other):
    mine = build("vq_soundstream", quantizer="bsq")
    before = copy.deepcopy(mine.state_dict())
    state = build("vq_soundstream", quantizer=other).state_dict()
    with pytest.raises(RuntimeError, match="written with another quantizer than 'bsq'"):
        mine.load_state_dict(state)
    after = mine.generator.quantizer.state_dict()
    for key, value in after.items():
        assert torch.equal(value, before[f"generator.quantizer.{key}"])


def test_options_of_a_quantizer_win():
    codec = build("vq_encodec", quantizer="gumbel", quantizer_conf={"n_codebooks": 2})
    assert codec.meta_info()["code_size_per_stream"] == [16, 16]
    wide = build("vq_encodec", quantizer="bsq", quantizer_conf={"codebook_size": 2**20})
    assert wide.meta_info()["code_size_per_stream"] == [2**20]
    quantizer = wide.generator.quantizer
    assert quantizer.get_bandwidth_per_quantizer(FRAME_RATE) == 20.0


def test_a_quantizers_own_dropout_wins():
    x = torch.randn(2, 8, 50)
    for asked, own in ((True, False), (False, True)):
        q = CodecQuantizer(
            dimension=8,
            codebook_dim=8,
            n_q=4,
            bins=16,
            kmeans_iters=2,
            quantizer_dropout=asked,
            quantizer_conf={"quantizer_dropout": own, "commitment_weight": 0.25},
        )
        result = q(x, FRAME_RATE, 4.0)
        # The codec asked for four or five values; the quantizer drops levels or not.
        assert len(result) == 4 + asked
        assert len(result.codes) == (4 if own else 1)
        if asked:
            distance = (x - result.quantized).square().mean()
            torch.testing.assert_close(result.quantization_loss, distance.detach())
            torch.testing.assert_close(result.penalty, 0.25 * distance)


def test_quantizers_learn_through_the_codec():
    for quantizer_name in list_quantizers():
        codec = build("vq_soundstream", quantizer=quantizer_name).train()
        audio = torch.randn(2, 800) * 0.1
        codec(audio)["loss"].backward()
        grads = [p.grad for p in codec.generator.encoder.parameters()]
        assert all(grad is not None and grad.isfinite().all() for grad in grads), (
            quantizer_name
        )


def test_chunks_are_served(speech, tmp_path):
    train(
        speech,
        tmp_path,
        "vq_soundstream",
        iterator={"iterator_type": "chunk", "chunk_length": 800},
    )
    assert (tmp_path / "exp/latest.pth").is_file()


@pytest.mark.parametrize("codec", sorted(ONE_RATE))
def test_losses_are_those_of_espnet(codec):
    conf = codec_conf(codec)
    # Both start from the same random codebooks.
    conf["generator_params"] |= {
        "quantizer_kmeans_init": False,
        "quantizer_target_bandwidth": [32.0],
    }
    torch.manual_seed(0)
    theirs = STOCK[list(CODECS).index(codec)](**copy.deepcopy(conf))
    audio = torch.randn(2, 1600) * 0.1
    spread_frames(theirs, audio)
    mine = CODECS[codec](**conf)
    mine.load_state_dict(theirs.state_dict())
    if codec == "vq_funcodec":
        # In training it draws the codebooks that it drops.
        theirs.eval(), mine.eval()
    expected, stats = theirs(audio)["stats"], mine(audio)["stats"]
    assert stats.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(stats[name], value, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("codec", sorted(ONE_RATE))
def test_a_bandwidth_counts_the_actual_frame_rate(codec):
    model = build(codec).eval()
    audio = torch.randn(2, 1600) * 0.1
    assert model.frame_shift == HOP and model.generator.frame_rate == FRAME_RATE
    for bandwidth, number in ((4.0, 1), (8.0, 2), (None, 4)):
        codes = model.encode(audio[:, None], target_bw=bandwidth)
        assert len(codes) == streams_of(codec, number)
        assert model.decode(codes).shape[-1] >= 1600
    # A single signal, as in a notebook.
    assert torch.equal(model.encode(audio[0])[:, 0], codes[:, 0])


def test_groups_are_decoded_together_alone():
    model = build("vq_hificodec", quantizer="random_projection").eval()
    codes = model.encode(torch.randn(1, 1, 80))
    with pytest.raises(ShapeError, match="even n"):
        model.decode(codes[:3])
    halves = model.generator.quantizer.decode(codes).chunk(2, 1)
    for group, each in enumerate(halves):
        quantizer = getattr(model.generator.quantizer, f"quantizer{group}")
        assert torch.equal(each, quantizer.decode(codes[group::2]))


UNTRAINABLE = {
    "encdec_ratios": ("vq_funcodec", [4, 2], "pairs of factors"),
    "codec_domain": ("vq_funcodec", ["time", "time"], "mag_phase"),
    "encdec_channels": ("vq_funcodec", 1, "must be 3 for mag_phase"),
    "domain_conf": ("vq_funcodec", {"n_fft": 32}, "n_fft must be 16"),
    "upsample_rates": ("vq_hificodec", [2, 2, 2], "four factors"),
    "hidden_dim": ("vq_hificodec", 128, "must be 256"),
}


@pytest.mark.parametrize("key", UNTRAINABLE)
def test_sizes_that_espnet_cannot_train_are_refused(key):
    codec, value, words = UNTRAINABLE[key]
    conf = codec_conf(codec)
    conf["generator_params"][key] = value
    with pytest.raises(ConfigError, match=words) as caught:
        CODECS[codec](**conf)
    assert str(caught.value).startswith(f"codec_conf.generator_params.{key}")


def test_funcodec_has_one_decoder():
    with pytest.raises(ConfigError, match="codec_conf.use_dual_decoder must be false"):
        CODECS["vq_funcodec"](**codec_conf("vq_funcodec", use_dual_decoder=True))
