"""Checks that invalid input raises an error before any state changes."""

import torch

import sb_espnet_vq
from sb_espnet_vq.testing.helpers import (
    INTEGERS,
    contract_options,
    frames,
    labels_for,
    make,
    make_started,
    refused,
    same_state,
    state_of,
)
from sb_espnet_vq.testing.registry import contract_check


@contract_check
def refuses_wrong_options(name, options):
    """An unknown option or a size that is no positive integer raises a ConfigError."""
    small = {**contract_options(name), **options}
    refused(lambda: sb_espnet_vq.build(name, **small, no_such=1), "no_such")
    for option in ("dim", "codebook_size"):
        for value in (0, -3, 2.5, "8", True):
            wrong = {**small, option: value}
            error = refused(lambda w=wrong: sb_espnet_vq.build(name, **w), repr(value))
            assert option in str(error), f"the error does not name {option}: {error}"


@contract_check
def refuses_wrong_input(name, options):
    """A wrong last dimension or dtype raises a ShapeError and changes no state."""
    q = make(name, options)
    narrow = torch.zeros(2, 5, q.dim + 1)
    cases = [
        (narrow, str(tuple(narrow.shape)), str(q.dim)),
        (torch.zeros(()), "()", str(q.dim)),
        (torch.zeros(2, 5, q.dim, dtype=torch.int64), "torch.int64", "float"),
        (torch.zeros(2, 5, q.dim, dtype=torch.complex64), "torch.complex64", "float"),
        ([[0.0] * q.dim], "list", "float"),
    ]
    for x, got, expected in cases:
        _forward_and_encode_refuse(q, (got, expected), x)


@contract_check
def refuses_wrong_mask(name, options):
    """A mask of the wrong shape or dtype raises a ShapeError."""
    q = make(name, options)
    x = frames(q, 2, 5)
    cases = [
        (torch.ones(2, 4, dtype=torch.bool), "(2, 4)"),
        (torch.ones(2, dtype=torch.bool), "(2,)"),
        (torch.ones(2, 5, q.dim, dtype=torch.bool), str((2, 5, q.dim))),
        (torch.ones(2, 5), "torch.float32"),
        (torch.ones(2, 5, dtype=torch.int64), "torch.int64"),
        ([[True] * 5] * 2, "list"),
    ]
    for mask, got in cases:
        _forward_and_encode_refuse(q, (got, "(2, 5)"), x, mask=mask)


@contract_check
def refuses_wrong_labels(name, options):
    """Labels of the wrong shape or dtype raise a ShapeError, even if not used."""
    q = make(name, options)
    x = frames(q, 2, 5)
    cases = [
        (torch.zeros(3, dtype=torch.int64), "(3,)"),
        (torch.zeros(2, 5, dtype=torch.int64), "(2, 5)"),
        (torch.zeros((), dtype=torch.int64), "()"),
        (torch.zeros(2), "torch.float32"),
        (torch.zeros(2, dtype=torch.int32), "torch.int32"),
        ([0, 0], "list"),
    ]
    for labels, got in cases:
        _forward_and_encode_refuse(q, (got, "(2,)"), x, labels=labels)
    # A single frame without batch axis has no utterance to label.
    labels = torch.zeros(1, dtype=torch.int64)
    _forward_and_encode_refuse(q, ("labels",), x[0, 0], labels=labels)


@contract_check(cpu_only=True)
def refuses_labels_out_of_range(name, options):
    """A label out of range raises an error; quantizers without classes ignore it."""
    q = make(name, options)
    x, far = frames(q, 2, 5), torch.tensor([0, 10**6])
    if q.num_classes is None:
        q.eval()(x, labels=far)
        return
    for label in (-1, q.num_classes):
        labels = torch.tensor([0, label])
        needs = (str(label), str(q.num_classes))
        _forward_and_encode_refuse(q, needs, x, ValueError, labels=labels)


@contract_check(cpu_only=True)
def refuses_wrong_codes(name, options):
    """Codes of a wrong shape, dtype or range raise an error."""
    q = make_started(name, options).eval()
    k = q.n_codebooks
    wide = torch.zeros(2, 5, k + 1, dtype=torch.int64)
    cases = [
        (wide, (str(tuple(wide.shape)), str(k))),
        (wide[..., :0], (str((2, 5, 0)),)),
        (torch.zeros((), dtype=torch.int64), ("()",)),
        (torch.zeros(2, 5, k), ("torch.float32",)),
        (torch.zeros(2, 5, k, dtype=torch.bool), ("torch.bool",)),
        ([[0] * k], ("list",)),
    ]
    for codes, needs in cases:
        refused(lambda c=codes: q.decode(c), *needs, kind=sb_espnet_vq.ShapeError)
    for code in (-2, q.codebook_size):
        codes = torch.zeros(2, 5, k, dtype=torch.int64)
        codes[1, 3, k - 1] = code
        needs = (str(code), str(q.codebook_size))
        for dtype in INTEGERS:
            limits = torch.iinfo(dtype)
            # The largest value of an unsigned dtype may mean -1.
            if limits.min <= code < limits.max:
                stored = codes.to(dtype)
                refused(lambda c=stored: q.decode(c), *needs, kind=ValueError)


@contract_check
def refuses_wrong_placement(name, options):
    """Sparse or nested tensors and tensors on another device raise a ShapeError."""
    q, here = make(name, options), torch.get_default_device().type
    x, labels = frames(q, 2, 5), labels_for(q, 2)
    mask = torch.ones(2, 5, dtype=torch.bool)
    codes = torch.zeros(2, 5, q.n_codebooks, dtype=torch.int64)
    nested = torch.nested.nested_tensor(list(x), layout=torch.jagged)
    _forward_and_encode_refuse(q, ("x", "dense", "sparse"), x.to_sparse())
    _forward_and_encode_refuse(q, ("x", "dense", "nested"), nested)
    _forward_and_encode_refuse(q, ("mask", "dense"), x, mask=mask.to_sparse())
    _forward_and_encode_refuse(q, ("mask", "meta", here), x, mask=mask.to("meta"))
    if labels is not None:
        labels = labels.to("meta")
        _forward_and_encode_refuse(q, ("labels", "meta", here), x, labels=labels)
    shape_error = sb_espnet_vq.ShapeError
    sparse = codes.to_sparse()
    refused(lambda: q.decode(sparse), "codes", "dense", kind=shape_error)
    if any(True for _ in (*q.parameters(), *q.buffers())):
        _forward_and_encode_refuse(q, ("x", "meta", here), x.to("meta"))
        away = codes.to("meta")
        refused(lambda: q.decode(away), "codes", "meta", kind=shape_error)


@contract_check
def written_exceptions(name, options):
    """Each declared exception has a reason and names an existing check."""
    from sb_espnet_vq import testing
    from sb_espnet_vq.registry import find_quantizer

    known = [check.name for check in testing.list_checks()]
    for check_name in getattr(find_quantizer(name), "contract_exceptions", {}):
        assert check_name in known, (
            f"contract_exceptions names an unknown check {check_name!r}; "
            f"known are {', '.join(known)}"
        )
        testing.known_exception(name, check_name)


def _forward_and_encode_refuse(q, needs, x, kind=sb_espnet_vq.ShapeError, **given):
    for call in (q.train(), q.encode):
        before = state_of(q)
        refused(lambda call=call: call(x, **given), *needs, kind=kind)
        same_state(q, before, "after a refused input")
