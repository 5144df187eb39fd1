"""The YAML that ``sbvq show NAME`` prints builds what it says, for each quantizer."""

import io
import re

import pytest
import torch
from hyperpyyaml import load_hyperpyyaml
from yaml import safe_load

from sb_espnet_vq import ConfigError, Quantizer, list_quantizers, registry
from sb_espnet_vq.cli import uses
from sb_espnet_vq.cli.main import main
from sb_espnet_vq.gan_codec.codecs import CODECS
from sb_espnet_vq.quantizers.base import Quantized
from sb_espnet_vq.registry import find_quantizer, quantizer_options

NAMES = list_quantizers()


@pytest.fixture
def shown(capsys):
    """Return a function that gives the YAML blocks of `sbvq show`, by use."""

    def show(name: str) -> dict[str, str]:
        assert main(["show", name]) == 0
        _, _, yaml = capsys.readouterr().out.partition("\nIn YAML\n-------\n")
        blocks = yaml.strip().split("\n\n")
        return {re.match(r"# ([\w ]+)", block)[1]: block for block in blocks}

    return show


def _built(yaml: str, key: str):
    return load_hyperpyyaml(io.StringIO(yaml))[key]


@pytest.mark.parametrize("name", NAMES)
def test_every_use_is_shown(shown, name):
    assert list(shown(name)) == ["as a module", *uses.USES]


@pytest.mark.parametrize("name", NAMES)
def test_by_itself_it_is_the_registered_class(shown, name):
    quantizer = _built(shown(name)["as a module"], "quantizer")
    assert type(quantizer) is find_quantizer(name)


@pytest.mark.parametrize("name", NAMES)
def test_target_yaml_gives_labels(shown, name):
    quantizer = _built(shown(name)["target"], "Quantizer")
    assert type(quantizer.quantizer) is find_quantizer(name)
    labels = quantizer.eval()(torch.randn(2, 3, 320))
    assert labels.shape == (2, 3) and 0 <= labels.min() and labels.max() < 8192


@pytest.mark.parametrize("name", NAMES)
def test_contrastive_yaml_gives_targets(shown, name):
    quantiser = _built(shown(name)["contrastive"], "target_quantiser")
    assert isinstance(quantiser.quantiser.quantizer, find_quantizer(name)) or (
        name == "gumbel"  # the drop-in class
    )
    targets, meta = quantiser.eval()(torch.randn(2, 3, 512))
    assert targets.shape == (2, 3, 256)
    # `fsq` has levels for 240 codes.
    assert meta["num_vars"] in (240, 256, 512)


@pytest.mark.parametrize("name", NAMES)
def test_bottleneck_yaml_gives_values(shown, name):
    quantizer = _built(shown(name)["bottleneck"], "quantizer")
    assert type(quantizer.quantizer) is find_quantizer(name)
    assert quantizer.eval()(torch.randn(2, 3, 13))[0].shape == (2, 3, 13)


@pytest.mark.parametrize("name", NAMES)
def test_dictionary_yaml_builds_the_interpreter(shown, name):
    codebook = _built(shown(name)["dictionary"], "psi_model").codebook
    z_q, _ = codebook.eval().straight_through(
        torch.randn(2, 256, 2, 2), torch.tensor([0, 1])
    )
    assert z_q.shape == (2, 256, 2, 2)
    held = getattr(codebook, "quantizer", codebook)
    # The drop-in class holds the quantizer under a name of its own.
    assert type(held) is find_quantizer(name) or name == "class_partitioned"


@pytest.mark.parametrize("name", NAMES)
def test_espnet_yaml_builds_the_codec(shown, name):
    config = safe_load(shown(name)["ESPnet"])
    codec = CODECS[config["codec"]](**config["codec_conf"])
    assert codec.generator.quantizer.quantizer == name
    assert isinstance(codec.generator.quantizer.vq, find_quantizer(name))


@pytest.mark.parametrize("name", NAMES)
def test_every_option_is_described(name, capsys):
    main(["show", name])
    shown = capsys.readouterr().out
    for option in quantizer_options(name):
        found = re.search(rf"^{option} .*\n((?:    .*\n)+)", shown, re.M)
        assert found, f"{option} has no description"
        assert not re.match(r"\s*As in `", found[1]), f"{option}: {found[1]}"


class OnlyFour(Quantizer):
    """A quantizer with a fixed number of codes.

    Arguments
    ---------
    dim : int
        Width of the frames.
    codebook_size : int
        Always 4.
    """

    def __init__(self, dim: int, codebook_size: int = 4):
        if codebook_size != 4:
            raise ConfigError(f"codebook_size must be 4, got {codebook_size}")
        super().__init__(dim, codebook_size)

    def _quantize(self, frames):
        return Quantized(frames.x, self._search(frames), {})

    def _search(self, frames):
        return frames.x.new_zeros((len(frames.x), 1), dtype=torch.int64)

    def _decode(self, codes):
        return codes.new_zeros((len(codes), self.dim), dtype=torch.float32)


def test_a_use_whose_sizes_do_not_suit_says_why(shown, monkeypatch):
    entries = registry._entries() | {"only_four": registry._entries()["vq"]}
    monkeypatch.setattr(registry, "_entries", lambda: entries)
    monkeypatch.setattr(registry, "_load", lambda entry: OnlyFour)
    blocks = shown("only_four")
    for use, (_, yaml, _, codes, _) in uses.USES.items():
        block = " ".join(blocks[use].replace("#", "").split())
        assert f"Not with {codes} codes per codebook: codebook_size must be 4" in block
        assert yaml.splitlines()[0] not in blocks[use]
