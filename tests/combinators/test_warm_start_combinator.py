"""What is particular to `warm_start`."""

import io

import torch
from random_frames import normal

from sb_espnet_vq import build


def warm(start=2, **options):
    torch.manual_seed(0)
    sizes = {"dim": 8, "codebook_size": 16, "n_codebooks": 2}
    return build("warm_start", **sizes, quantize_from_step=start, **options)


def is_identity(q, x):
    return torch.equal(q(x).quantized, x)


def test_frames_pass_unchanged_until_the_step():
    q, x = warm(), normal(2, 50, 8)
    assert [is_identity(q, x) for _ in range(4)] == [True, True, False, False]
    q.set_step(0)
    assert is_identity(q, x)
    q.set_step(7)
    assert not is_identity(q, x)


def test_codebooks_learn_before_the_step_as_they_do_without():
    q, plain = warm(100), build("rvq", dim=8, codebook_size=16, n_codebooks=2)
    plain.load_state_dict(q.parts[0].state_dict())
    for step in range(3):
        x = normal(2, 50, 8, seed=step)
        torch.manual_seed(step)
        out = q(x)
        torch.manual_seed(step)
        expected = plain(x)
        assert torch.equal(out.codes, expected.codes)
        assert torch.equal(out.loss, expected.loss)
    for key, value in plain.state_dict().items():
        assert torch.equal(q.parts[0].state_dict()[key], value), key


def test_gradient_of_the_frames_is_that_of_the_identity():
    q, x = warm(100, quantizer_conf={"commitment_weight": 0}), normal(2, 50, 8)
    x.requires_grad_()
    weight = normal(2, 50, 8, seed=1)
    (q(x).quantized * weight).sum().backward()
    torch.testing.assert_close(x.grad, weight)


def test_eval_and_frozen_quantize_at_any_step():
    q, x = warm(100), normal(2, 50, 8)
    q(x)
    assert not is_identity(q.eval(), x)
    assert not is_identity(q.train().requires_grad_(False), x)
    assert q.step == 1


def test_a_resumed_training_continues_where_it_was():
    q, x = warm(3), normal(2, 50, 8)
    q(x), q(x)
    file = io.BytesIO()
    torch.save(q.state_dict(), file)
    file.seek(0)
    resumed = warm(3)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    assert [is_identity(resumed, x) for _ in range(2)] == [True, False]


def test_a_batch_without_frames_is_no_step():
    q, x = warm(1), normal(2, 50, 8)
    q(x, mask=torch.zeros(2, 50, dtype=torch.bool))
    assert is_identity(q, x)
