"""Checks that the codes of a frame depend only on this frame."""

import torch

from sb_espnet_vq.testing.helpers import (
    frames,
    labels_for,
    make_started,
    same,
)
from sb_espnet_vq.testing.registry import contract_check


@contract_check
def codes_ignore_neighbours(name, options):
    """The codes of a frame do not depend on batch shape, chunks or other frames."""
    q = make_started(name, options).eval()
    x = frames(q, 4, 30)
    whole = q.encode(x)
    pieces = {
        "single utterances": torch.cat([q.encode(u[None]) for u in x]),
        "chunks of 7 frames": torch.cat([q.encode(c) for c in x.split(7, 1)], 1),
        "one row": q.encode(x.reshape(1, -1, q.dim)).view_as(whole),
        "a strided batch": q.encode(x.transpose(0, 1)).transpose(0, 1),
        "single frames": torch.stack([q.encode(f) for f in x[0]])[None],
    }
    for what, codes in pieces.items():
        same(codes, whole[: len(codes)], f"codes from {what}")
    large = x.clone()
    large[1:] = 1e6
    same(q.encode(large)[0], whole[0], "codes beside huge frames")


@contract_check
def chunks_with_labels(name, options):
    """With labels, the codes of an utterance do not depend on other utterances."""
    q = make_started(name, options).eval()
    x, labels = frames(q, 4, 30), labels_for(q, 4)
    if labels is None:
        labels = torch.zeros(4, dtype=torch.int64)
        same(q.encode(x, labels=labels), q.encode(x), "codes with labels not used")
        return
    whole = q.encode(x, labels=labels)
    for b in range(4):
        alone = q.encode(x[b : b + 1], labels=labels[b : b + 1])
        same(alone[0], whole[b], f"codes of utterance {b}")
    turned = q.encode(x.flip(0), labels=labels.flip(0)).flip(0)
    same(turned, whole, "codes of the batch in another order")


@contract_check
def equal_frames_equal_codes(name, options):
    """Equal frames have equal codes at any position of a batch."""
    q = make_started(name, options).eval()
    codes = q.encode(frames(q, 1, 1).expand(3, 50, -1))
    same(codes, codes[:1, :1].expand_as(codes), "codes of one frame repeated")
