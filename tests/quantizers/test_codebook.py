"""Codebooks of moving averages: start, updates, revival, held vectors."""

import pytest
import torch
from random_frames import clusters, normal

from sb_espnet_vq import ConfigError, ShapeError, build, list_quantizers


def small_clusters(n, seed=0):
    """As `clusters`, seen through a pinhole: most codes start far from any frame."""
    return clusters(n, seed=seed) + 20


# --- vq: the moving average, its start and the revival of dead codes


def test_kmeans_starts_at_the_first_training_batch():
    q = build("vq", dim=8, codebook_size=48, threshold_ema_dead_code=0)
    x = clusters(2000)
    q.eval()(x)
    assert q._codebook.inited.item() == 0 and not q._codebook.started
    out = q.train()(x)
    assert q._codebook.inited.item() == 1 and q._codebook.started
    # Middles are 4 apart in each dim, frames 0.1 around them.
    assert out.stats["perplexity"] > 20 and out.stats["commitment"] < 5


@pytest.mark.parametrize("threshold", [0, 2])
@pytest.mark.parametrize("name", ["vq", "rvq"])
def test_with_fewer_frames_than_codes_every_entry_is_a_frame(name, threshold):
    q = build(name, dim=8, codebook_size=256, threshold_ema_dead_code=threshold)
    x = clusters(60)
    for _ in range(3):
        q.train()(x)
    book = q._codebook if name == "vq" else q.layers[0]._codebook
    nearest = torch.cdist(book.embed, x).amin(1)
    # Frames of one cluster are 0.1 apart in each dim; the origin is 8 away.
    assert float(nearest.max()) < 1, nearest


def test_an_entry_that_no_frame_chooses_any_more_stays():
    q = build("vq", dim=8, codebook_size=48, threshold_ema_dead_code=0, decay=0.5)
    q.train()(clusters(2000))
    before = q._codebook.embed.clone()
    few = clusters(2000)[:1].expand(100, -1)
    for _ in range(300):  # until counts are below what float32 can hold
        q(few)
    moved = (q._codebook.embed - before).norm(dim=1)
    assert int((moved > 1e-2).sum()) <= 1, moved
    assert int((q._codebook.cluster_size < 1e-30).sum()) > 20


@pytest.mark.parametrize("name", ["vq", "rvq"])
def test_held_vectors_do_not_change(name):
    q = build(name, dim=8, codebook_size=48)
    q.train()(clusters(2000))
    held = torch.arange(48) < 20
    books = [q._codebook] if name == "vq" else [layer._codebook for layer in q.layers]
    before = [{k: v.clone() for k, v in book.state_dict().items()} for book in books]
    q.hold(held)
    for seed in (1, 2):
        q(clusters(300, seed=seed))  # few frames, so that some codes are revived
    for book, old in zip(books, before, strict=True):
        for key in ("embed", "embed_avg", "cluster_size"):
            new = book.state_dict()[key]
            assert torch.equal(new[held], old[key][held]), key
            assert not torch.equal(new[~held], old[key][~held]), key
    q.hold(None)
    q(clusters(300, seed=3))
    assert not torch.equal(books[0].embed[held], before[0]["embed"][held])


LEARNT_TABLES = {
    "entropy_vq": lambda q: q.codebook.weight[None],
    "class_partitioned": lambda q: q.embedding.weight[None],
    "gumbel": lambda q: q.vars.unflatten(1, (2, -1))[0],
}


@pytest.mark.parametrize("name", LEARNT_TABLES)
def test_vectors_that_learn_by_gradient_are_held(name):
    q, table = build(name, dim=8, codebook_size=16), LEARNT_TABLES[name]
    held = torch.arange(16).expand(q.n_codebooks, 16) % 3 == 0
    q.hold(held)
    before = table(q).detach().clone()
    optimizer = torch.optim.Adam(q.parameters(), lr=0.1)
    for seed in range(3):
        out = q.train()(normal(2, 200, 8, seed=seed))
        optimizer.zero_grad()
        (out.loss + out.quantized.square().sum()).backward()
        optimizer.step()
    assert torch.equal(table(q)[held], before[held])
    moved = (table(q)[~held] != before[~held]).any(-1)
    assert bool(moved.any())


@pytest.mark.parametrize("name", sorted({*list_quantizers()} - {"random_projection"}))
def test_frozen_from_the_outset(name):
    q = build(name, dim=8, codebook_size=16, frozen=True)
    assert q.frozen and not any(p.requires_grad for p in q.parameters())
    before = {key: value.clone() for key, value in q.state_dict().items()}
    q.train()(normal(2, 50, 8))
    assert all(torch.equal(q.state_dict()[key], before[key]) for key in before)
    with pytest.raises(ConfigError, match="frozen must be true or false"):
        build(name, dim=8, codebook_size=16, frozen="no")


def test_vectors_can_be_held_from_the_start():
    q = build("vq", dim=8, codebook_size=48)
    held = torch.arange(48) < 20
    before = q._codebook.embed.clone()
    q.hold(held)
    q.train()(clusters(2000))
    assert torch.equal(q._codebook.embed[held], before[held])


def test_invalid_masks_of_held_vectors_are_refused():
    q = build("vq", dim=8, codebook_size=48)
    for wrong in (torch.ones(47).bool(), torch.ones(48), [True] * 48):
        with pytest.raises(ShapeError, match="entries must be"):
            q.hold(wrong)
    with pytest.raises(ConfigError, match="no codebook vectors that learn"):
        build("random_projection", dim=8).hold(torch.ones(8192).bool())


def test_codebook_vectors_move_to_the_mean_of_their_frames():
    options = {"decay": 0.5, "kmeans_init": False, "threshold_ema_dead_code": 0}
    q = build("vq", dim=1, codebook_size=2, **options)
    book = q._codebook
    book.embed.copy_(torch.tensor([[0.0], [10.0]]))
    book.embed_avg.copy_(torch.tensor([[0.0], [10.0]]))
    book.cluster_size.fill_(1)
    out = q(torch.tensor([[1.0], [2.0], [9.0]]))
    assert out.codes.flatten().tolist() == [0, 0, 1]
    assert out.quantized.flatten().tolist() == [0.0, 0.0, 10.0]
    torch.testing.assert_close(book.cluster_size, torch.tensor([1.5, 1.0]))
    torch.testing.assert_close(book.embed_avg, torch.tensor([[1.5], [9.5]]))
    expected = torch.tensor([[1.0], [9.5]])
    torch.testing.assert_close(book.embed, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("decay", [0.0, 0.9, 1.0])
@pytest.mark.parametrize("threshold", [0, 2])
def test_a_random_start_stays_where_frames_are(decay, threshold):
    """Codebook vectors without frames must not diverge."""
    q = build(
        "vq",
        dim=8,
        codebook_size=64,
        kmeans_init=False,
        decay=decay,
        threshold_ema_dead_code=threshold,
    )
    for step in range(20):
        out = q(clusters(400, seed=step))
    assert bool(out.loss.isfinite())
    near = 2 * clusters(400).abs().max()
    assert q.eval()(clusters(400)).quantized.abs().max() < near
    if threshold == 0:  # else entries that flew off are revived
        assert q._codebook.embed.abs().max() < near


def test_dead_codes_are_revived():
    used, error = [], []
    for threshold in (0, 2):
        torch.manual_seed(0)
        q = build(
            "vq",
            dim=8,
            codebook_size=64,
            kmeans_init=False,
            threshold_ema_dead_code=threshold,
        )
        for step in range(40):
            q(small_clusters(600, seed=step))
        out = q.eval()(small_clusters(2000, seed=1000))
        used.append(out.stats["used_codes"].item())
        error.append(out.stats["commitment"].item())
    assert used[0] < 10 and used[1] >= 48, used
    assert error[1] < error[0] / 10, error


def test_a_revived_code_is_a_frame_of_the_batch():
    q = build("vq", dim=2, codebook_size=4, kmeans_init=False)
    book = q._codebook
    start = torch.tensor([[0.0, 0.0], [500.0, 0.0], [0.0, 500.0], [500.0, 500.0]])
    book.embed.copy_(start)
    book.embed_avg.copy_(start * 40)
    book.cluster_size.copy_(torch.tensor([40.0, 0.0, 40.0, 40.0]))
    x = normal(30, 2)
    out = q(x)
    assert bool((out.codes == 0).all()), "revival must come after the lookup"
    assert any(torch.equal(book.embed[1], frame) for frame in x)
    near = [abs(book.embed[k] - start[k]).max().item() < 1 for k in (2, 3)]
    assert near == [True, True], "codes in use are not revived"
    torch.testing.assert_close(book.embed_avg[1], book.embed[1] * book.cluster_size[1])


def test_codes_in_use_survive_small_batches():
    """A batch with fewer frames than threshold * codebook_size kills no live code."""
    q = build("vq", dim=8, codebook_size=48, decay=0.9)
    for step in range(5):
        q(clusters(480, seed=step))
    before = q._codebook.embed.clone()
    for step in range(20):
        q(clusters(60, seed=100 + step))
    moved = (q._codebook.embed - before).norm(dim=1)
    assert (moved < 1).float().mean() > 0.8, moved


def test_training_draws_alike_whether_a_code_is_dead_or_not():
    """Ranks of which one drew and another did not would wait for each other."""
    states = []
    for dead in (False, True):
        q = build("vq", dim=8, codebook_size=4, kmeans_init=False)
        q._codebook.cluster_size.fill_(100)
        if dead:
            q._codebook.cluster_size[0] = 0
        torch.manual_seed(0)
        q(normal(400, 8))
        states.append(torch.get_rng_state())
    assert torch.equal(*states)
