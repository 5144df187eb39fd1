"""Checks of a quantizer's attributes and further methods: sizes, flags, vectors."""

from typing import Any

import torch

from sb_espnet_vq.testing.helpers import (
    close,
    frames,
    labels_for,
    make,
    make_started,
    refused,
    run,
    same,
    same_output,
    same_state,
    some_mask,
    state_of,
    train,
)
from sb_espnet_vq.testing.registry import contract_check

# The largest codebook that a quantizer without a table lists.
_MAX_LISTED = 2**16


@contract_check
def sizes_of_codebooks(name, options):
    """codebook_sizes has one size per codebook; codebook_size is the largest one."""
    q = make_started(name, options).eval()
    sizes = q.codebook_sizes
    assert type(sizes) is tuple and all(type(size) is int for size in sizes), (
        f"codebook_sizes is {sizes!r}, expected a tuple of int"
    )
    assert len(sizes) == q.n_codebooks, (
        f"codebook_sizes is {sizes}, but there are {q.n_codebooks} codebooks"
    )
    assert max(sizes) == q.codebook_size and min(sizes) > 0, (
        f"codebook_sizes is {sizes}, but codebook_size is {q.codebook_size}"
    )
    largest = q.encode(frames(q, 2, 200)).flatten(0, 1).amax(0).tolist()
    for column, (code, size) in enumerate(zip(largest, sizes, strict=True)):
        assert code < size, f"codebook {column} of {size} codes gives the code {code}"


@contract_check
def flags(name, options):
    """Each flag is a bool that agrees with what the quantizer does."""
    q = make(name, options)
    for flag in _FLAGS:
        value = getattr(q, flag)
        assert type(value) is bool, f"{flag} is {value!r}, expected a bool"
    assert q.needs_labels == (q.num_classes is not None), (
        f"needs_labels is {q.needs_labels}, num_classes is {q.num_classes}"
    )
    if q.takes_inv_temperature:
        q.eval()(frames(q, 2, 5), inv_temperature=2.0)
    # A stored codebook has at least one number per code.
    sizes = [tensor.numel() for tensor in state_of(q).values()]
    assert not q.has_table or max(sizes, default=0) >= q.codebook_size, (
        f"has_table is True, but the largest tensor has {max(sizes, default=0)} "
        f"numbers for {q.codebook_size} codes"
    )
    axes = {axis for tensor in state_of(q).values() for axis in tensor.shape}
    assert q.has_table or q.codebook_size not in axes - {q.dim}, (
        f"has_table is False, but a tensor has an axis of {q.codebook_size}, the "
        "number of codes"
    )
    q.requires_grad_(False)
    assert q.frozen, "frozen is False after requires_grad_(False)"


@contract_check
def uses_the_first_codebooks(name, options):
    """n_codebooks=k uses the first k codebooks and does not update the others."""
    q = make_started(name, options).eval()
    x, mask, labels = frames(q, 3, 40), some_mask(3, 40), labels_for(q, 3)
    given: dict[str, Any] = {"mask": mask, "labels": labels}
    codes = q.encode(x, **given)
    for k in range(1, q.n_codebooks + 1):
        out = q.eval()(x, n_codebooks=k, **given)
        same(out.codes, codes[..., :k], f"codes of {k} codebooks")
        same(q.encode(x, n_codebooks=k, **given), out.codes, f"encode of {k} codebooks")
        same(q.decode(out.codes), out.quantized, f"values of {k} codebooks")
        again, _ = q.forward_with_usage(x, n_codebooks=k, **given)
        same_output(again, out, f"forward_with_usage of {k} codebooks")
        fresh = make_started(name, options)
        if k < q.n_codebooks and fresh.codebook_size <= _MAX_LISTED:
            before = fresh.codebook_vectors()[k:]
            shape = train(fresh, x, n_codebooks=k, **given).codes.shape
            assert shape == (3, 40, k), f"training gives codes {tuple(shape)}"
            same(fresh.codebook_vectors()[k:], before, "vectors of unused codebooks")


@contract_check
def refuses_other_numbers_of_codebooks(name, options):
    """n_codebooks out of range raises a ConfigError and changes no state."""
    q = make(name, options).train()
    x, before = frames(q, 2, 5), state_of(q)
    for wrong in (0, -1, q.n_codebooks + 1, 1.5, "1", True):
        for call in (q, q.encode, q.forward_with_usage):
            refused(
                lambda c=call, n=wrong: c(x, n_codebooks=n), "n_codebooks", repr(wrong)
            )
    same_state(q, before, "after refused numbers of codebooks")


@contract_check
def probabilities_of_codes(name, options):
    """forward_with_usage returns probabilities if and only if gives_probabilities."""
    for training in (True, False):
        q, other = make_started(name, options), make_started(name, options)
        x, mask = frames(q, 3, 40).requires_grad_(), some_mask(3, 40)
        expected = run(other, training, x, mask=mask)
        torch.manual_seed(2)
        out, usage = q.train(training).forward_with_usage(x, mask=mask)
        same_output(out, expected, "forward_with_usage")
        if not q.gives_probabilities:
            assert usage is None, "gives_probabilities is False, but there is usage"
            continue
        shape = (q.n_codebooks, q.codebook_size)
        assert usage is not None and tuple(usage.shape) == shape, (
            f"usage is {usage if usage is None else tuple(usage.shape)}, not {shape}"
        )
        assert bool((usage >= 0).all()), "a probability is negative"
        close(usage.sum(1), torch.ones(q.n_codebooks), "sum of the probabilities")
        grad = torch.autograd.grad(usage.square().sum(), x)[0]
        assert bool(grad[mask].any()), "no gradient of the probabilities reaches x"
        assert not bool(grad[~mask].any()), "padding gets a gradient"


@contract_check
def codebook_vectors_add_up(name, options):
    """decode is the sum of the codebook_vectors of the codes."""
    q = make_started(name, options).eval()
    if not q.has_table and q.codebook_size > _MAX_LISTED:
        refused(q.codebook_vectors, str(q.codebook_size))
        return
    vectors = q.codebook_vectors()
    shape = (q.n_codebooks, q.codebook_size, q.dim)
    assert tuple(vectors.shape) == shape, (
        f"codebook_vectors() is {tuple(vectors.shape)}, expected {shape}"
    )
    assert not vectors.requires_grad, "codebook_vectors() has a gradient"
    for column, size in enumerate(q.codebook_sizes):
        beyond = vectors[column, size:]
        same(beyond, torch.zeros_like(beyond), f"vectors beyond codebook {column}")
    codes = q.encode(frames(q, 2, 40))
    parts = [vectors[k][codes[..., k]] for k in range(q.n_codebooks)]
    close(torch.stack(parts).sum(0), q.decode(codes), "the sum of codebook vectors")


@contract_check
def steps_of_a_schedule(name, options):
    """set_step sets the schedule regardless of the past; it refuses negative steps."""
    q, other = make(name, options), make_started(name, options)
    for step in (0, 5):
        for each in (q, other):
            each.set_step(step)
        first, second = (float(each.sampling_temperature) for each in (q, other))
        assert first == second >= 0, (
            f"after set_step({step}) the temperature is {first} in a fresh module and "
            f"{second} in a trained one"
        )
        assert q.draws_codes or first == 0, "a temperature, but draws_codes is False"
    before = state_of(q)
    for wrong in (-1, 2.5, "3"):
        refused(lambda n=wrong: q.set_step(n), "step", repr(wrong))
    same_state(q, before, "after refused steps")


_FLAGS = (
    "draws_codes",
    "adds_noise",
    "needs_labels",
    "has_table",
    "gives_probabilities",
    "takes_inv_temperature",
    "takes_beam",
    "frozen",
)
