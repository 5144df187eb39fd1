"""Contract checks of quantizer members, and plugin quantizers in every use."""

from pathlib import Path

import pytest
import torch
from torch import nn

from sb_espnet_vq import ConfigError, Quantizer, list_quantizers, testing
from sb_espnet_vq.codec.model import Codec
from sb_espnet_vq.codec.networks import ConvDecoder, ConvEncoder
from sb_espnet_vq.gan_codec.quantizers import CodecQuantizer
from sb_espnet_vq.lobes.quantizers import (
    BottleneckQuantizer,
    ContrastiveQuantizer,
    DictionaryQuantizer,
    TargetQuantizer,
)
from sb_espnet_vq.ops.estimators import straight_through
from sb_espnet_vq.quantizers.base import Quantized
from sb_espnet_vq.quantizers.bsq import BSQ
from sb_espnet_vq.quantizers.entropy_vq import EntropyVQ
from sb_espnet_vq.quantizers.gumbel import GumbelVQ
from sb_espnet_vq.quantizers.rvq import RVQ
from sb_espnet_vq.quantizers.vq import VQ
from sb_espnet_vq.registry import build, find_quantizer

PLUGIN = Path(__file__).parents[1] / "plugin_package"
CHECKS = {check.name: check for check in testing.list_checks()}


def path_of(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


# ----------------------------------------------------- quantizers that break a promise


class SizesOfOthers(RVQ):
    @property
    def codebook_sizes(self):
        return (self.codebook_size // 2,) * self.n_codebooks


class HiddenTable(VQ):
    has_table = False


class TableOfNothing(BSQ):
    has_table = True


class AllCodebooks(RVQ):
    def _search(self, frames):
        return super()._search(frames._replace(n_codebooks=None))


class AnyNumber(VQ):
    def _number_of_codebooks(self, n_codebooks):
        return self.n_codebooks


class NoProbabilities(EntropyVQ):
    def _quantize(self, frames):
        return super()._quantize(frames)._replace(usage=None)


class OffsetDecode(RVQ):
    def _decode(self, codes):
        return super()._decode(codes) * (1 + (codes >= 0).sum(1, keepdim=True))


class WorseBeam(RVQ):
    def _search(self, frames, beam=1):
        codes = super()._search(frames)
        return codes if beam == 1 else codes.flip(1)


class LateStep(GumbelVQ):
    def _set_step(self, step):
        self.step.add_(step)


@pytest.mark.parametrize(
    ("broken", "check", "words"),
    [
        (SizesOfOthers, "sizes_of_codebooks", "codebook_sizes is"),
        (HiddenTable, "flags", "has_table is False"),
        (TableOfNothing, "flags", "has_table is True"),
        (AllCodebooks, "uses_the_first_codebooks", "codes of 1 codebooks|encode of 1"),
        (AnyNumber, "refuses_other_numbers_of_codebooks", "ConfigError naming"),
        (NoProbabilities, "probabilities_of_codes", "usage is None"),
        (OffsetDecode, "codebook_vectors_add_up", "sum of codebook vectors"),
        (WorseBeam, "a_beam_is_never_worse", "above that of the usual search"),
        (LateStep, "steps_of_a_schedule", "the temperature is"),
    ],
)
def test_a_check_catches_a_broken_promise(broken, check, words):
    options = {"codebook_size": 256} if broken is TableOfNothing else {}
    with pytest.raises(AssertionError, match=words):
        CHECKS[check](path_of(broken), **options)


# ------------------------------------------------------------- codebooks of two sizes


class TwoSizes(Quantizer):
    """A residual chain of a codebook of ``codebook_size`` codes and one of 4."""

    def __init__(self, dim, codebook_size=16):
        super().__init__(dim, codebook_size, 2)
        self.loss_weights = {"commitment": 1.0}
        self.books = nn.ModuleList(VQ(dim, size) for size in (codebook_size, 4))

    @property
    def codebook_sizes(self):
        return tuple(book.codebook_size for book in self.books)

    def _quantize(self, frames):
        inner, parts = frames._replace(x=frames.x.detach()), []
        for book in self._used(frames):
            parts.append(book._quantize(inner))
            inner = inner._replace(x=inner.x - parts[-1].value)
        value = sum(part.value for part in parts)
        distances = [part.terms["commitment"] for part in parts]
        return Quantized(
            straight_through(frames.x, value),
            torch.cat([part.codes for part in parts], 1),
            {"commitment": sum(distances) / len(parts)},
        )

    def _search(self, frames):
        codes = []
        for book in self._used(frames):
            codes.append(book._search(frames))
            frames = frames._replace(x=frames.x - book._decode(codes[-1]))
        return torch.cat(codes, 1)

    def _decode(self, codes):
        columns = codes.split(1, 1)
        return sum(b._decode(c) for b, c in zip(self.books, columns, strict=False))

    def _used(self, frames):
        return list(self.books)[: frames.n_codebooks]


@pytest.mark.parametrize(
    "check", [check for check in testing.list_checks() if not check.slow], ids=str
)
def test_two_sizes_keep_the_contract(check):
    check(path_of(TwoSizes))


def test_a_code_is_checked_against_its_own_codebook():
    q = TwoSizes(8).eval()
    q.decode(torch.tensor([[15, 3]]))
    with pytest.raises(ValueError, match=r"\[-1, 4\) or \[-1, 16\), got 3 to 4"):
        q.decode(torch.tensor([[3, 4]]))


def test_a_codec_counts_the_bits_of_each_codebook():
    sizes = {"dim": 8, "channels": 4, "ratios": (4, 2)}
    parts = ConvEncoder(**sizes), ConvDecoder(**sizes)
    codec = Codec(*parts, 8000, 8, 16, quantizer=path_of(TwoSizes))
    assert [codec.bitrate(n) for n in (1, 2, None)] == [4.0, 6.0, 6.0]
    assert [codec.codebooks_for(rate) for rate in (5.9, 6, None)] == [1, 2, 2]
    codes = codec.eval().encode(torch.randn(1, 80), bandwidth=4)
    assert codes.shape == (1, 10, 1)


def test_espnets_interface_counts_the_bits_of_each_codebook():
    q = CodecQuantizer(8, bins=16, quantizer=path_of(TwoSizes)).eval()
    x = torch.randn(2, 8, 10)
    for bandwidth, n_codebooks, rate in ((5.9, 1, 4.0), (6, 2, 6.0)):
        result = q(x, 1000, bandwidth)
        assert len(result.codes) == n_codebooks and result.bandwidth == rate


def test_espnets_codecs_know_the_size_of_each_stream():
    pytest.importorskip("espnet2")
    from tiny_codecs import codec_conf

    from sb_espnet_vq.gan_codec.codecs import CODECS

    for name, codec in CODECS.items():
        meta = codec(**codec_conf(name, quantizer=path_of(TwoSizes))).meta_info()
        # HiFi-Codec has two quantizers, whose codes alternate.
        sizes = [16, 16, 4, 4] if name == "vq_hificodec" else [16, 4]
        assert meta["code_size_per_stream"] == sizes
        assert meta["num_streams"] == len(sizes)


# ----------------------------------------------------------- a path instead of a name

USES = {
    "target": lambda name: TargetQuantizer(8, 4, 16, quantizer=name),
    "contrastive": lambda name: ContrastiveQuantizer(
        8, 16, (2.0, 0.25, 0.999), 2, 4, quantizer=name
    ),
    "bottleneck": lambda name: BottleneckQuantizer(4, quantizer=name),
    "dictionary": lambda name: DictionaryQuantizer(16, 8, 4, quantizer=name),
    "espnet": lambda name: CodecQuantizer(8, 6, 2, 16, quantizer=name),
    "espnet with dropout": lambda name: CodecQuantizer(
        8, 6, 4, 16, kmeans_init=False, quantizer_dropout=True, quantizer=name
    ),
}


@pytest.mark.parametrize("name", list_quantizers())
@pytest.mark.parametrize("use", USES)
def test_a_path_gets_the_options_of_a_name(use, name):
    built = []
    for each in (name, path_of(find_quantizer(name))):
        torch.manual_seed(0)
        module = USES[use](each)
        shapes = {key: x.shape for key, x in module.state_dict().items()}
        inner = getattr(module, "vq", None) or module.quantizer
        built.append((shapes, repr(inner), vars(inner).get("loss_weights")))
    assert built[0] == built[1]


def test_dropout_by_path_is_that_of_the_name():
    results = []
    for name in ("rvq", path_of(RVQ)):
        torch.manual_seed(0)
        module = USES["espnet with dropout"](name).train()
        results.append(module(torch.randn(4, 8, 20), 50, 0.2))
    assert len(results[0]) == 5 and results[0].codes.min() >= 0
    assert len(results[0].codes) == 4  # all, whatever the bandwidth
    for one, other in zip(*results, strict=True):
        assert torch.equal(one, other)
    assert results[1].quantization_loss > 0


def test_espnets_codec_by_path_is_that_of_the_name():
    pytest.importorskip("espnet2")
    from tiny_codecs import codec_conf

    from sb_espnet_vq.gan_codec.codecs import VQDAC

    states = []
    for name in ("rvq", path_of(RVQ)):
        torch.manual_seed(0)
        states.append(VQDAC(**codec_conf("vq_dac", quantizer=name)).state_dict())
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


# ------------------------------------------------------------------------ no table


def test_a_quantizer_without_a_table_has_any_number_of_codes(monkeypatch):
    monkeypatch.syspath_prepend(str(PLUGIN))
    module = BottleneckQuantizer(
        40, quantizer="finite_scalar.FiniteScalar", quantizer_conf={"levels": 2}
    )
    _, codes, _ = module(torch.randn(2, 5, 40))
    assert codes.max() >= 2**24 and module.quantizer.codebook_size == 2**40
    with pytest.raises(ConfigError, match="too many to list"):
        module.quantizer.codebook_vectors()
    with pytest.raises(ConfigError, match="too many for the table"):
        BottleneckQuantizer(40, quantizer=path_of(TwoSizes))


# ------------------------------------------------------------------------ schedules


def test_a_step_sets_the_temperature_of_gumbel():
    q = build("gumbel", dim=8, codebook_size=16, temperature=(2.0, 0.5, 0.9))
    q.set_step(3)
    assert float(q.sampling_temperature) == pytest.approx(2 * 0.9**3)
    build("vq", dim=8, codebook_size=16).set_step(3)
