"""Every registered quantizer, and our own in more than one form, keeps the contract."""

import pytest

from sb_espnet_vq import list_quantizers, testing
from sb_espnet_vq.testing.ranks import compare_compiled_ranks, compare_ranks
from sb_espnet_vq.testing.wrappers import compare_wrappers

CLASSES = {"num_classes": 3}
NESTED = {
    "quantizer": "residual",
    "quantizer_conf": {"n_codebooks": 2, "quantizer": "fsq"},
}
# Forms of our own quantizers that a default does not show.
VARIANTS = [
    ("vq", {"kmeans_init": False}),
    ("vq", {"decay": 0.1}),  # some codes die in every batch
    ("vq", {"dim": 1, "codebook_size": 2, "threshold_ema_dead_code": 0}),
    ("rvq", {"n_codebooks": 3, "code_dim": 4}),
    ("rvq", {"n_codebooks": 3, "quantizer_dropout": True}),
    ("vq", {"codebook": "gradient", "kmeans_init": True, "estimator": "rotation"}),
    (
        "rvq",
        {"n_codebooks": 3, "codebook": "gradient", "metric": "cosine", "code_dim": 4},
    ),
    ("gumbel", {"n_codebooks": 3}),
    ("bsq", {"dim": 4}),
    ("bsq", {"dim": 40, "codebook_size": 2**40}),
    ("class_partitioned", {"num_classes": 3, "shared_keys": 2}),
    ("residual", {"quantizer": "fsq", "quantizer_conf": {"levels": [4, 3, 3]}}),
    ("grouped", {**NESTED, "quantizer_dropout": True}),
]
# Further combinations of the same parts. Compiling and exporting each would take
# minutes, and trace no operation that the forms above do not.
COMBINATIONS = [
    ("vq", {"codebook": "frozen", "kmeans_init": True, "code_dim": 4}),
    ("rvq", {"n_codebooks": 3, "codebook": "simvq", "estimator": "diveq"}),
    ("rvq", {"n_codebooks": 3, "estimator": "nsvq", "quantizer_dropout": True}),
    ("rvq", {"n_codebooks": 2, "metric": "cosine", "estimator": "rotation"}),
    ("residual", {"quantizer": "bsq", "scale": "learned", "quantizer_dropout": True}),
    ("grouped", {"quantizer": "class_partitioned", "quantizer_conf": CLASSES}),
    ("split", {"target_dim": 5, "first": "entropy_vq", "rest": "residual"}),
    ("warm_start", {"quantizer": "lfq", "quantize_from_step": 2}),
]
DEFAULTS = [(name, {}) for name in list_quantizers()]
FORMS = DEFAULTS + VARIANTS + COMBINATIONS
# Starting two processes per form would take minutes, so one pair runs them all. What
# the ranks of other forms than the defaults compile does not differ.
ON_RANKS = {
    "ranks_equal_one_process": (compare_ranks, FORMS),
    "compiled_ranks_equal_one_process": (compare_compiled_ranks, DEFAULTS),
    "trains_in_wrappers_on_ranks": (compare_wrappers, FORMS),
}


def _cases():
    cases = []
    for name, options in FORMS:
        for check in testing.list_checks():
            if check.name in ON_RANKS:
                continue
            if check.slow and (name, options) in COMBINATIONS:
                continue
            shown = ",".join(f"{k}={v}" for k, v in options.items())
            marks = [pytest.mark.slow] if check.slow and options else []
            label = f"{name}[{shown}]" if shown else name
            cases.append(
                pytest.param(name, options, check, id=f"{label}-{check}", marks=marks)
            )
    return cases


@pytest.mark.parametrize(("name", "options", "check"), _cases())
def test_contract(name, options, check):
    reason = testing.known_exception(name, check.name)
    if reason is not None:
        pytest.xfail(reason)
    check(name, **options)


@pytest.mark.slow
@pytest.mark.parametrize("check", ON_RANKS)
def test_contract_on_two_ranks(check):
    compare, forms = ON_RANKS[check]
    compare([form for form in forms if not testing.known_exception(form[0], check)])
