"""What is particular to `class_partitioned`."""

import pytest
import torch
import torch.nn.functional as F
from random_frames import normal

from sb_espnet_vq import ConfigError, build
from sb_espnet_vq.quantizers.class_partitioned import class_of_keys

# --- class_partitioned


@pytest.mark.parametrize("shared", [0, 3])
def test_classes_keep_to_their_keys(shared):
    torch.manual_seed(0)
    q = build(
        "class_partitioned",
        dim=4,
        codebook_size=17,
        num_classes=3,
        shared_keys=shared,
    )
    q.embedding.weight.data.normal_()
    owner = class_of_keys(17, 3, shared).long().tolist() + [-1] * shared
    x, labels = normal(6, 50, 4), torch.tensor([0, 1, 2, 2, 1, 0])
    owners = {}
    for training in (True, False):
        codes = q.train(training)(x, labels=labels).codes[..., 0].tolist()
        for row, label in zip(codes, labels.tolist(), strict=True):
            found = {owner[code] for code in row}
            assert found <= ({label} if training else {label, -1})
            owners[training] = owners.get(training, set()) | found
    assert (-1 in owners[False]) == bool(shared)
    free = q(x).codes
    assert torch.equal(
        free.reshape(-1), torch.cdist(x.reshape(-1, 4), q.embedding.weight).argmin(1)
    )


def test_every_class_needs_a_key():
    with pytest.raises(ConfigError, match="class"):
        build("class_partitioned", dim=4, codebook_size=5, num_classes=4, shared_keys=2)


def test_each_term_of_the_codebook_loss():
    q = build("class_partitioned", dim=4, codebook_size=6, commitment_weight=0.3)
    x = normal(50, 4).requires_grad_()
    out = q(x)
    chosen = q.embedding.weight[out.codes[:, 0]]
    expected = 0.3 * F.mse_loss(x, chosen.detach()) + F.mse_loss(x.detach(), chosen)
    wanted = [x, q.embedding.weight]
    torch.testing.assert_close(out.loss, expected)
    pairs = [torch.autograd.grad(y, wanted) for y in (out.loss, expected)]
    for mine, theirs in zip(*pairs, strict=True):
        torch.testing.assert_close(mine, theirs)
