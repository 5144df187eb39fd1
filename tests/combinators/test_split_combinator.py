"""What is particular to `split`."""

import pytest
import torch
import torch.nn.functional as F
from random_frames import normal

from sb_espnet_vq import ConfigError, ShapeError, build


def split(**options):
    torch.manual_seed(0)
    sizes = {"dim": 8, "codebook_size": 16, "n_codebooks": 4}
    return build("split", **{**sizes, **options})


def test_it_is_the_quantizer_of_mimi():
    mimi = pytest.importorskip("transformers.models.mimi.modeling_mimi")
    config = mimi.MimiConfig(
        hidden_size=24,
        vector_quantization_hidden_dimension=12,
        codebook_dim=12,
        codebook_size=32,
        num_quantizers=5,
    )
    theirs = mimi.MimiSplitResidualVectorQuantizer(config).eval()
    ours = split(dim=24, codebook_size=32, n_codebooks=5, code_dim=12).eval()
    books = [ours.parts[0]._codebook, *(x._codebook for x in ours.parts[1].layers)]
    sides = (
        theirs.semantic_residual_vector_quantizer,
        (theirs.acoustic_residual_vector_quantizer),
    )
    layers = [*sides[0].layers[:1], *sides[1].layers]
    with torch.no_grad():
        for mine, layer in zip(books, layers, strict=True):
            layer.codebook.embed_sum.normal_()
            layer.codebook.cluster_usage.uniform_(0.5, 2)
            mine.embed.copy_(layer.codebook.embed)
        for number, side in enumerate(sides):
            ours.project_in[number].weight.copy_(side.input_proj.weight[..., 0])
            ours.project_out[number].weight.copy_(side.output_proj.weight[..., 0])
        x = normal(2, 50, 24)
        codes = theirs.encode(x.transpose(1, 2))  # (K, B, T)
        value = theirs.decode(codes.transpose(0, 1)).transpose(1, 2)
    assert torch.equal(ours.encode(x), codes.movedim(0, -1))
    torch.testing.assert_close(ours(x).quantized, value)


def test_both_quantize_the_frames_and_the_values_add():
    q = split(code_dim=6)
    for step in range(3):
        q(normal(4, 50, 8, seed=step))
    x = normal(30, 8, seed=9)
    codes = q.eval().encode(x)
    values = []
    for number, columns in enumerate((slice(0, 1), slice(1, 4))):
        part = q.parts[number]
        mine = part.encode(q.project_in[number](x))
        assert torch.equal(codes[:, columns], mine)
        values.append(q.project_out[number](part.decode(mine)))
    torch.testing.assert_close(q(x).quantized, values[0] + values[1])
    torch.testing.assert_close(q.decode(codes[:, :1]), values[0])


def test_distillation_is_the_cosine_distance_over_valid_frames():
    q = split(target_dim=5, distill_weight=0.5)
    q(normal(2, 30, 8))
    x, targets = normal(2, 30, 8, seed=1), normal(2, 30, 5, seed=2)
    mask = torch.arange(30) < torch.tensor([[30], [20]])
    targets[~mask] = float("nan")
    first = q.decode(q.encode(x)[..., :1])
    near = F.cosine_similarity(q.project_target(first), targets, -1)
    expected = (1 - near)[mask].mean()
    out = q(x, mask=mask, targets=targets)
    torch.testing.assert_close(out.stats["distillation"], expected.detach())
    rest = sum(out.stats[name] for name in q.loss_weights if name != "distillation")
    torch.testing.assert_close(out.loss, rest + 0.5 * expected)
    out.loss.backward()
    for layer in (q.project_target, q.project_out[0], q.project_in[0]):
        assert bool(layer.weight.grad.isfinite().all() & layer.weight.grad.any())


def test_distillation_learns():
    q = split(target_dim=5)
    x = normal(4, 50, 8)
    targets = x @ normal(8, 5, seed=3)
    optimizer = torch.optim.Adam(q.parameters(), 1e-2)
    distances = []
    for _ in range(60):
        out = q(x, targets=targets)
        optimizer.zero_grad()
        out.loss.backward()
        optimizer.step()
        distances.append(out.stats["distillation"].item())
    assert distances[-1] < 0.5 * distances[0], distances


def test_without_targets_the_map_stays_in_the_graph():
    q = split(target_dim=5)
    out = q(normal(2, 30, 8))
    assert out.stats["distillation"] == 0
    out.loss.backward()
    assert not bool(q.project_target.weight.grad.any())
    q.requires_grad_(False)
    assert q(normal(2, 30, 8)).stats["distillation"] == 0


def test_wrong_targets_are_refused_before_anything_changes():
    q, x = split(target_dim=5), normal(2, 30, 8)
    before = {key: value.clone() for key, value in q.state_dict().items()}
    for targets, got in (
        (normal(2, 30, 4), r"float \(2, 30, 5\).*got torch.float32 \(2, 30, 4\)"),
        (normal(2, 29, 5), r"\(2, 29, 5\)"),
        (torch.zeros(2, 30, 5, dtype=torch.int64), "int64"),
        ([0.0], "got list"),
        (torch.zeros(2, 30, 5, device="meta"), "targets is on meta"),
    ):
        with pytest.raises(ShapeError, match=got):
            q(x, targets=targets)
    with pytest.raises(ConfigError, match="built without target_dim"):
        split()(x, targets=normal(2, 30, 5))
    for key, value in q.state_dict().items():
        assert torch.equal(value, before[key]), key


def test_number_of_codebooks():
    assert [part.n_codebooks for part in split().parts] == [1, 3]
    assert split(n_codebooks=1).n_codebooks == 1
    semantic = {"first": "rvq", "first_conf": {"n_codebooks": 2}}
    assert [part.n_codebooks for part in split(**semantic).parts] == [2, 2]
    assert split(rest="fsq", codebook_size=23).codebook_sizes == (23, 20)
