"""Options of the codecs: every documented one is built, and errors name their key."""

import re
from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from saved_codecs import PLACE, save, swapped
from tiny_codecs import codec_conf, streams_of

from sb_espnet_vq import ConfigError, build, list_quantizers
from sb_espnet_vq.gan_codec.codecs import CODECS
from sb_espnet_vq.gan_codec.quantizers import CodecQuantizer

PAGE = Path(__file__).parents[2] / "docs" / "espnet.md"
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:torch|espnet2")


def build_codec(codec, conf=None, **generator):
    conf = codec_conf(codec) | (conf or {})
    conf["generator_params"] = conf["generator_params"] | generator
    return CODECS[codec](**conf)


# ------------------------------------------------------- the table of the ESPnet page

_DEAD = "quantizer_threshold_ema_dead_code"
# A value of each option, its name in the quantizer, and the attribute that shows it.
DOCUMENTED = {
    "hidden_dim": (12, "dim", "dim", 12),
    "quantizer_bins": (32, "codebook_size", "codebook_size", 32),
    "quantizer_n_q": (6, "n_codebooks", "n_codebooks", 6),
    "quantizer_decay": (0.5, "decay", "decay", 0.5),
    "quantizer_kmeans_init": (False, "kmeans_init", "started", True),
    "quantizer_kmeans_iters": (7, "kmeans_iters", "kmeans_iters", 7),
    _DEAD: (1, _DEAD.removeprefix("quantizer_"), "threshold", 1),
    "codebook_dim": (6, "code_dim", "out_features", 6),
    "quantizer_dropout": (False, "quantizer_dropout", "quantizer_dropout", False),
}


def rows():
    """Return (ESPnet's option, quantizer's option, used by) of the documented table."""
    found = []
    for row in re.findall(r"^\| `.*$", PAGE.read_text(encoding="utf-8"), re.M):
        theirs, ours, given = (
            re.findall(r"`(\w+)`", cell) for cell in row.split("|")[1:4]
        )
        same = "the same" in row
        for n, option in enumerate(theirs):
            mine = option.removeprefix("quantizer_") if same else ours[n]
            found.append((option, mine, given or list_quantizers()))
    return found


def test_the_table_names_every_option():
    assert sorted(option for option, *_ in rows()) == sorted(DOCUMENTED)


@pytest.mark.parametrize(("option", "mine", "quantizer_names"), rows())
def test_an_option_of_the_table_is_built(option, mine, quantizer_names):
    value, name, attribute, expected = DOCUMENTED[option]
    assert mine == name
    codec = (
        "vq_dac" if option in ("codebook_dim", "quantizer_dropout") else "vq_encodec"
    )
    for quantizer_name in quantizer_names:
        for conf in ({option: value}, {}):
            built = build_codec(codec, {"quantizer": quantizer_name}, **conf)
            # Of several modules with the attribute, the outermost shows the option.
            found = [
                getattr(part, attribute)
                for part in built.generator.quantizer.vq.modules()
                if hasattr(part, attribute)
            ]
            # Only the configuration has this effect.
            assert (found[:1] == [expected]) == bool(conf), (quantizer_name, found)


# ------------------------------------------------------------------------------- beam


@torch.no_grad()
def test_a_beam_encodes_closer_with_the_same_weights():
    codecs = [
        build_codec("vq_encodec", {"beam": beam}, quantizer_kmeans_init=False).eval()
        for beam in (1, 8)
    ]
    codecs[1].load_state_dict(codecs[0].state_dict())
    audio = torch.randn(2, 1, 640)
    usual, beam = (codec.encode(audio) for codec in codecs)
    assert usual.shape == beam.shape and not torch.equal(usual, beam)
    generator = codecs[0].generator
    frames = generator.encoder(audio)
    errors = [
        (generator.quantizer.decode(codes) - frames).square().sum()
        for codes in (usual, beam)
    ]
    assert errors[1] < errors[0]


@pytest.mark.parametrize(("beam", "quantizer"), [(0, "rvq"), (8, "bsq")])
def test_a_beam_that_cannot_be_searched_is_refused(beam, quantizer):
    with pytest.raises(ConfigError, match=f"^codec_conf.beam: .*{beam}"):
        build_codec("vq_encodec", {"beam": beam, "quantizer": quantizer})


# ------------------------------------------------------------------ DAC without dropout


@pytest.mark.parametrize("quantizer_name", list_quantizers())
@pytest.mark.parametrize("dropout", [True, False])
def test_dac_trains_with_and_without_dropout(quantizer_name, dropout):
    codec = build_codec(
        "vq_dac", {"quantizer": quantizer_name}, quantizer_dropout=dropout
    )
    audio = torch.randn(2, 800) * 0.1
    for turn in (True, False):
        loss = codec.train()(audio, forward_generator=turn)["loss"]
        loss.backward()
        assert loss.isfinite()
    assert codec.eval()(audio)["stats"]["codec_quantization_loss"] == 0


def test_without_dropout_no_codebook_is_left_out():
    codec = build_codec("vq_dac", quantizer_dropout=False)
    quantizer = codec.generator.quantizer.train()
    result = quantizer(torch.randn(4, 8, 50), 1000, 4.0)
    assert len(result) == 5 and len(result.codes) == 1
    distance = result.quantization_loss
    torch.testing.assert_close(distance, result.penalty.detach())


# ------------------------------------------------------------------------- mappings


def test_every_mapping_may_be_one_of_omegaconf():
    for codec in CODECS:
        plain = codec_conf(codec, quantizer="gumbel")
        plain["quantizer_conf"] = {"n_codebooks": 2, "temperature": [2, 0.5, 0.99]}
        conf = OmegaConf.create(plain)
        for options in (dict(conf), conf):
            built = CODECS[codec](**options)
            sizes = [16] * streams_of(codec, 2)
            assert built.meta_info()["code_size_per_stream"] == sizes
            assert built.frame_shift == 8
        assert OmegaConf.to_container(conf) == plain
    q = CodecQuantizer(
        8, quantizer="vq", quantizer_conf=OmegaConf.create({"decay": 0.5})
    )
    assert q.decay == 0.5


@pytest.mark.parametrize("convert", ["none", "partial", "object", "all"])
def test_hydra_builds_a_codec_however_it_converts(convert):
    conf = {"_target_": "sb_espnet_vq.gan_codec.codecs.VQDAC", "quantizer": "bsq"}
    codec = instantiate(
        OmegaConf.create(conf | codec_conf("vq_dac")), _convert_=convert
    )
    assert codec.num_streams == 1


@pytest.mark.parametrize("name", ["generator_params", "quantizer_conf"])
def test_what_is_no_mapping_is_refused(name):
    with pytest.raises(ConfigError, match=rf"codec_conf\.{name} must be a mapping"):
        CODECS["vq_dac"](**codec_conf("vq_dac") | {name: [1]})


# --------------------------------------------------------------- errors name the key

BROKEN = [
    ({"foo": 1}, "codec_conf.foo: ESPnet's SoundStream has no option 'foo'; remove"),
    (
        {"discriminator_params": {"msstft_discriminator_params": {}}},
        "codec_conf.discriminator_params.msstft_discriminator_params: ESPnet's "
        "SoundStreamDiscriminator has no option 'msstft_discriminator_params'; "
        "use vq_encodec or vq_hificodec, which has it",
    ),
    (
        {"discriminator_params": {"complexstft_discriminator_params": {"bar": 1}}},
        "codec_conf.discriminator_params.complexstft_discriminator_params.bar: ",
    ),
    (
        {"generator_params": {"codebook_dim": 8}},
        "codec_conf.generator_params.codebook_dim: ESPnet's SoundStreamGenerator has",
    ),
    (
        {"generator_params": {"encdec_ratios": [[8, 2], [4, 1]]}},
        "codec_conf.generator_params.encdec_ratios: ",
    ),
    (
        {"quantizer": "bsq", "generator_params": {"quantizer_bins": 1000}},
        "codec_conf.generator_params.quantizer_bins: bsq needs a codebook_size that "
        "is a power of two up to 2**62, got 1000; add codebook_size=512 or "
        "codebook_size=1024 to its options",
    ),
    (
        {"quantizer": "bsq", "quantizer_conf": {"codebook_size": 1000}},
        "codec_conf.quantizer_conf.codebook_size: bsq needs",
    ),
    (
        {"generator_params": {"quantizer_decay": 2.0}},
        "codec_conf.generator_params.quantizer_decay: decay must be",
    ),
    ({"quantizer": "bqs"}, "codec_conf.quantizer (bqs): unknown quantizer 'bqs' (did"),
    (
        {"quantizer": "vq", "quantizer_conf": {"decai": 1}},
        "codec_conf.quantizer_conf.decai: 'vq' has no option 'decai' (did you mean",
    ),
    (
        {"quantizer_conf": {"dim": 3}},
        "codec_conf.quantizer_conf.dim: quantizer_conf sets dim to 3, but the width of",
    ),
    (
        {"quantizer": "class_partitioned", "quantizer_conf": {"num_classes": 4000}},
        "codec_conf.generator_params.quantizer_bins: codebook_size 1024 with ",
    ),
    (
        {"needs_sb_espnet_vq": "--swap x=bsq"},
        "codec_conf.needs_sb_espnet_vq: this configuration is that of another codec",
    ),
]


@pytest.mark.parametrize(("conf", "words"), BROKEN)
def test_an_error_names_the_key_of_the_yaml(conf, words):
    with pytest.raises(ConfigError) as caught:
        CODECS["vq_soundstream"](**conf)
    assert str(caught.value).startswith(words)


def test_an_error_under_a_swap_names_the_key_too(tmp_path):
    for swap, words in {
        "bsq": "codec_conf.generator_params.quantizer_bins: bsq needs .* or set "
        f"--swap {PLACE}=bsq,codebook_size=..., which overrides",
        "bsq,codebook_size=12": f"--swap {PLACE}=bsq,codebook_size=...: bsq needs",
    }.items():
        with swapped(swap), pytest.raises(ConfigError, match=words):
            save(tmp_path, "soundstream", generator={"quantizer_bins": 1000})


def test_a_codecs_other_errors_stay_as_they_are():
    with pytest.raises(AssertionError):
        CODECS["vq_soundstream"](use_mel_loss=False, use_dual_decoder=True)


@pytest.mark.parametrize("size", [1, 3, 1000, 2**62 + 1])
def test_bsq_names_the_nearest_size(size):
    with pytest.raises(ConfigError) as caught:
        build("bsq", dim=4, codebook_size=size)
    named = [int(n) for n in re.findall(r"codebook_size=(\d+)", str(caught.value))]
    for nearest in named:
        assert build("bsq", dim=4, codebook_size=nearest).codebook_size == nearest
        assert nearest / 2 < size < nearest * 2 or size == 1
