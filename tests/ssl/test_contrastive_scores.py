"""Contrastive logits, compared with a slow reference."""

import math

import torch
import torch.nn.functional as F

from sb_espnet_vq.ssl.contrastive_scores import contrastive_logits
from sb_espnet_vq.ssl.negatives import Negatives, sample_negatives
from sb_espnet_vq.ssl.span_masks import span_masks


def keys(count):
    return [f"key {n}" for n in range(count)]


def slow_logits(predictions, targets, mask, negatives, codes, temperature):
    rows = []
    for b, t in mask.nonzero().tolist():
        row = [F.cosine_similarity(predictions[b, t], targets[b, t], dim=0)]
        drawn = negatives.frames[b, t], negatives.valid[b, t]
        for other, valid in zip(*drawn, strict=True):
            same = torch.equal(codes[b, t], codes[b, other])
            alike = F.cosine_similarity(predictions[b, t], targets[b, other], dim=0)
            row.append(alike if valid and not same else torch.tensor(-math.inf))
        rows.append(torch.stack(row) / temperature)
    return torch.stack(rows)


def test_logits_equal_the_reference_and_exclude_negatives_with_equal_codes():
    mask = span_masks([20, 7, 1, 4], keys(4), 0.3, 2, total=23)
    codes = torch.randint(3, (4, 23, 2))
    table = torch.randn(3, 2, 5)
    targets = table[codes[..., 0], 0] + table[codes[..., 1], 1]
    predictions = torch.randn(4, 23, 5, requires_grad=True)
    negatives = sample_negatives(mask, keys(4), 6)
    got = contrastive_logits(predictions, targets, mask, negatives, 0.1)
    expected = slow_logits(predictions, targets, mask, negatives, codes, 0.1)
    torch.testing.assert_close(got, expected)
    assert got.isfinite().any(1).all()
    assert not got.isfinite().all()
    gradients = [
        torch.autograd.grad(F.cross_entropy(x, x.new_zeros(len(x)).long()), predictions)
        for x in (got, expected)
    ]
    torch.testing.assert_close(*gradients)
    with torch.autocast("cpu", torch.bfloat16):
        low = contrastive_logits(predictions, targets, mask, negatives, 0.1)
    assert torch.equal(low, got)


def test_unmasked_frames_do_not_affect_logits():
    mask = span_masks([9, 30], keys(2), 0.2, 3)
    negatives = sample_negatives(mask, keys(2), 4)
    predictions, targets = torch.randn(2, 2, 30, 8)
    before = contrastive_logits(predictions, targets, mask, negatives, 1.0)
    predictions[~mask], targets[~mask] = 100.0, -100.0
    after = contrastive_logits(predictions, targets, mask, negatives, 1.0)
    assert torch.equal(before, after)


def test_a_single_target_leaves_no_negatives():
    mask = torch.ones(1, 6, dtype=torch.bool)
    negatives = sample_negatives(mask, ["a"], 3)
    same = torch.randn(4).expand(1, 6, 4)
    # A projection may round equal rows differently.
    nearly = same * (1 + 1e-6 * torch.rand(1, 6, 1))
    logits = contrastive_logits(torch.randn(1, 6, 4), nearly, mask, negatives, 1.0)
    assert logits[:, 0].isfinite().all()
    assert (logits[:, 1:] == -math.inf).all()


def test_an_empty_mask_gives_no_logits_but_a_graph():
    mask = torch.zeros(2, 3, dtype=torch.bool)
    negatives = sample_negatives(mask, keys(2), 4)
    assert isinstance(negatives, Negatives)
    predictions = torch.randn(2, 3, 4, requires_grad=True)
    logits = contrastive_logits(predictions, predictions, mask, negatives, 1.0)
    assert logits.shape == (0, 5)
    logits.sum().backward()
    assert not predictions.grad.any()
