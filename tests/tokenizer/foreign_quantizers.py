"""Quantizers of other programs with random weights, and what they compute.

The original classes where their packages are tested with; otherwise the documented
names and equations in plain operations.
"""

from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

DIM, SIZE, WIDTH, LEVELS = 16, 32, 8, 3


class Foreign(NamedTuple):
    """A quantizer of another program.

    module; codes : (B, T, K) of frames x (B, T, D); values : (B, T, D') of the frames,
    None if it gives no values of frames; given : options for the import; labels.
    """

    module: nn.Module
    x: Tensor
    codes: Tensor
    values: Tensor | None
    given: dict[str, Any] = {}
    labels: Tensor | None = None


def _frames(dim=DIM):
    return torch.randn(2, 40, dim, generator=torch.Generator().manual_seed(1))


def _channels(codes):
    """Return codes (B, T, K) of codes (K, B, T)."""
    return codes.permute(1, 2, 0)


def _randomize(module):
    generator = torch.Generator().manual_seed(2)
    for name, buffer in module.named_buffers():
        if buffer.dim() == 2:
            buffer.normal_(generator=generator)
        elif "usage" in name or "cluster_size" in name:
            buffer.uniform_(0, 3, generator=generator)
            # A code that is not used.
            buffer[0] = 0
    return module.eval()


def encodec(code_dim=DIM):
    """ESPnet's residual quantizer, which is that of EnCodec's own package."""
    core = pytest.importorskip("espnet2.gan_codec.shared.quantizer.modules.core_vq")
    module = core.ResidualVectorQuantization(
        num_quantizers=LEVELS, dim=DIM, codebook_size=SIZE, codebook_dim=code_dim
    )
    x, channels = _frames(), _frames().transpose(1, 2)
    _randomize(module)
    codes = module.encode(channels)
    return Foreign(module, x, _channels(codes), module.decode(codes).transpose(1, 2))


def encodec_projected():
    """The same with projections around each codebook."""
    return encodec(WIDTH)


def transformers_encodec():
    """The quantizer of a model of transformers."""
    transformers = pytest.importorskip("transformers")
    modeling = transformers.models.encodec.modeling_encodec
    config = transformers.EncodecConfig(
        hidden_size=DIM,
        codebook_dim=DIM,
        codebook_size=SIZE,
        upsampling_ratios=[2],
        # The number of levels follows from it.
        target_bandwidths=[360.0],
    )
    module = _randomize(modeling.EncodecResidualVectorQuantizer(config))
    x = _frames()
    codes = module.encode(x.transpose(1, 2))
    return Foreign(module, x, _channels(codes), module.decode(codes).transpose(1, 2))


def transformers_dac():
    """The quantizer of a model of transformers."""
    return _dac_of_transformers(_dac_model())


def dac_parametrized():
    """The same, with weight norm."""
    model = _dac_model()
    model.apply_weight_norm()
    for level in model.quantizer.quantizers:
        for projection in (level.in_proj, level.out_proj):
            _scale(projection.parametrizations.weight, "original0", "original1")
    return _dac_of_transformers(model)


def _dac_model():
    transformers = pytest.importorskip("transformers")
    sizes = {"encoder_hidden_size": DIM // 2, "decoder_hidden_size": 4}
    config = transformers.DacConfig(
        **sizes,
        downsampling_ratios=[2],
        n_codebooks=LEVELS,
        codebook_size=SIZE,
        codebook_dim=WIDTH,
    )
    return transformers.DacModel(config).eval()


def _dac_of_transformers(model):
    x, module = _frames(), model.quantizer
    with torch.no_grad():
        value, codes, *_ = module(x.transpose(1, 2))
    return Foreign(module, x, codes.transpose(1, 2), value.transpose(1, 2))


def _scale(module, size, direction):
    """Make the parts of a weight norm other than those of a fresh one."""
    with torch.no_grad():
        getattr(module, size).mul_(1.7)
        getattr(module, direction).mul_(0.3)


class _DacLevel(nn.Module):
    def __init__(self):
        super().__init__()
        self.in_proj = nn.utils.weight_norm(nn.Conv1d(DIM, WIDTH, 1))
        self.out_proj = nn.utils.weight_norm(nn.Conv1d(WIDTH, DIM, 1))
        self.codebook = nn.Embedding(SIZE, WIDTH)
        for projection in (self.in_proj, self.out_proj):
            _scale(projection, "weight_g", "weight_v")


class _Dac(nn.Module):
    def __init__(self):
        super().__init__()
        self.quantizers = nn.ModuleList(_DacLevel() for _ in range(LEVELS))

    def forward(self, x):
        residual, codes = x.transpose(1, 2), []
        for level in self.quantizers:
            z = F.normalize(level.in_proj(residual).transpose(1, 2), dim=-1)
            codes.append((z @ F.normalize(level.codebook.weight).t()).argmax(-1))
            found = level.codebook(codes[-1]).transpose(1, 2)
            residual = residual - level.out_proj(found)
        return torch.stack(codes, -1), x - residual.transpose(1, 2)


def dac():
    """DAC's equations, with the names of its own package."""
    module, x = _Dac(), _frames()
    with torch.no_grad():
        codes, values = module(x)
    return Foreign(module, x, codes, values)


def transformers_mimi(semantic=1):
    """The quantizer of a model of transformers."""
    transformers = pytest.importorskip("transformers")
    modeling = transformers.models.mimi.modeling_mimi
    config = transformers.MimiConfig(
        hidden_size=DIM,
        codebook_dim=WIDTH,
        vector_quantization_hidden_dimension=WIDTH,
        codebook_size=SIZE,
        num_quantizers=4,
        num_semantic_quantizers=semantic,
    )
    module = _randomize(modeling.MimiSplitResidualVectorQuantizer(config))
    x = _frames()
    with torch.no_grad():
        codes = module.encode(x.transpose(1, 2))
        values = module.decode(codes.transpose(0, 1)).transpose(1, 2)
    return Foreign(module, x, _channels(codes), values)


def transformers_mimi_two_semantic():
    """The same with two codebooks in the first part."""
    return transformers_mimi(2)


class _MimiBook(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("_initialized", torch.ones(1))
        self.register_buffer("cluster_usage", torch.ones(SIZE))
        self.register_buffer("embedding_sum", torch.zeros(SIZE, WIDTH))

    def table(self):
        return self.embedding_sum / self.cluster_usage.clamp(min=1e-5)[:, None]


class _MimiPart(nn.Module):
    def __init__(self, levels):
        super().__init__()
        self.input_proj = nn.Conv1d(DIM, WIDTH, 1, bias=False)
        self.output_proj = nn.Conv1d(WIDTH, DIM, 1, bias=False)
        self.vq = nn.Module()
        self.vq.layers = nn.ModuleList(nn.Module() for _ in range(levels))
        for layer in self.vq.layers:
            layer._codebook = _MimiBook()

    def forward(self, x):
        z = self.input_proj(x.transpose(1, 2)).transpose(1, 2)
        residual, codes = z, []
        for layer in self.vq.layers:
            table = layer._codebook.table()
            squared = (residual[..., None, :] - table).square().sum(-1)
            codes.append(squared.argmin(-1))
            residual = residual - table[codes[-1]]
        value = self.output_proj((z - residual).transpose(1, 2))
        return torch.stack(codes, -1), value.transpose(1, 2)


def mimi():
    """Mimi's equations, with the names of moshi."""
    module, x = nn.Module(), _frames()
    module.rvq_first, module.rvq_rest = _MimiPart(1), _MimiPart(LEVELS)
    _randomize(module)
    with torch.no_grad():
        first, rest = module.rvq_first(x), module.rvq_rest(x)
    return Foreign(module, x, torch.cat([first[0], rest[0]], -1), first[1] + rest[1])


def speechbrain_best_rq():
    """SpeechBrain's class."""
    quantisers = pytest.importorskip("speechbrain.nnet.quantisers")
    module, x = quantisers.RandomProjectionQuantizer(DIM, WIDTH, SIZE), _frames()
    codes = torch.stack([module(row[None]) for row in x]).view(2, -1, 1)
    return Foreign(module, x, codes, None)


def nemo_best_rq():
    """NeMo's equations: the largest product of normalized projections and codebooks."""
    module, x, books = nn.Module(), _frames(), 2
    module.proj = nn.Linear(DIM, books * WIDTH, bias=False)
    table = torch.randn(books, SIZE, WIDTH, dtype=torch.float64)
    module.codebooks = nn.Parameter(F.normalize(table, dim=-1), requires_grad=False)
    with torch.no_grad():
        z = F.normalize(module.proj(x).unflatten(-1, (books, WIDTH)), dim=-1)
        products = (z.double()[..., None, :] * module.codebooks).sum(-1)
    return Foreign(module, x, products.argmax(-1), None)


def speechbrain_gumbel():
    """SpeechBrain's class."""
    quantisers = pytest.importorskip("speechbrain.nnet.quantisers")
    module = quantisers.GumbelVectorQuantizer(DIM, SIZE, (2, 0.5, 0.9), 2, 12).eval()
    return _gumbel(module, module.vars, lambda x: module(x)["x"])


def transformers_wav2vec2():
    """The quantizer of a model of transformers."""
    transformers = pytest.importorskip("transformers")
    modeling = transformers.models.wav2vec2.modeling_wav2vec2
    config = transformers.Wav2Vec2Config(
        conv_dim=[DIM] * 7, codevector_dim=12, num_codevectors_per_group=SIZE
    )
    module = modeling.Wav2Vec2GumbelVectorQuantizer(config).eval()
    nn.init.uniform_(module.codevectors)
    return _gumbel(module, module.codevectors, lambda x: module(x)[0])


def _gumbel(module, table, call):
    x = _frames()
    with torch.no_grad():
        value = call(x)
        # Neither class returns codes: those of the vectors that it returns.
        tables = table.view(2, SIZE, -1)
        parts = value.unflatten(-1, (2, -1))
        codes = (parts[..., None, :] - tables).square().sum(-1).argmin(-1)
    return Foreign(module, x, codes, value, {"n_codebooks": 2})


def speechbrain_piq():
    """SpeechBrain's class."""
    piq = pytest.importorskip("speechbrain.lobes.models.PIQ")
    module, x = piq.VQEmbedding(SIZE, DIM, 4, shared_keys=4).eval(), _frames()
    # Values of the size of its codebook.
    x, labels = x / SIZE, torch.tensor([1, 3])
    maps = x.transpose(1, 2)[..., None]
    with torch.no_grad():
        # Its `forward` assumes ten classes.
        values = module.straight_through(maps, labels)[1][..., 0].transpose(1, 2)
        table = module.embedding.weight
        codes = (values[..., None, :] - table).square().sum(-1).argmin(-1)[..., None]
    given = {"num_classes": 4, "shared_keys": 4}
    return Foreign(module, x, codes, values, given, labels)


def kmeans():
    """Centres, of which the nearest is the code."""
    module, x = nn.Module(), _frames()
    module.centres = nn.Parameter(torch.randn(SIZE, DIM, dtype=torch.float64))
    table = module.centres.detach()
    codes = (x.double()[..., None, :] - table).square().sum(-1).argmin(-1)
    return Foreign(module, x, codes[..., None], table[codes].float())


FOREIGN = {
    "encodec": encodec,
    "encodec_projected": encodec_projected,
    "transformers_encodec": transformers_encodec,
    "dac": dac,
    "dac_parametrized": dac_parametrized,
    "transformers_dac": transformers_dac,
    "mimi": mimi,
    "transformers_mimi": transformers_mimi,
    "transformers_mimi_two_semantic": transformers_mimi_two_semantic,
    "speechbrain_best_rq": speechbrain_best_rq,
    "nemo_best_rq": nemo_best_rq,
    "speechbrain_gumbel": speechbrain_gumbel,
    "transformers_wav2vec2": transformers_wav2vec2,
    "speechbrain_piq": speechbrain_piq,
    "kmeans": kmeans,
}
