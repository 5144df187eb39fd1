"""Options of the wrong kind."""

import math

import numpy as np
import pytest

from sb_espnet_vq import ConfigError, build


def test_sizes_from_numpy():
    q = build("vq", dim=np.int64(8), codebook_size=np.int32(16))
    assert type(q.dim) is int and type(q.codebook_size) is int


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("vq", {"kmeans_init": "false"}),
        ("rvq", {"kmeans_init": 1}),
        ("rvq", {"quantizer_dropout": "false"}),
        ("vq", {"commitment_weight": math.inf}),
        ("bsq", {"entropy_weight": math.nan}),
        ("class_partitioned", {"shared_keys": 2.5}),
        ("class_partitioned", {"shared_keys": -1}),
    ],
)
def test_options_of_the_wrong_kind_are_refused(name, options):
    """The text "false" would count as true, and an infinite weight as a number."""
    with pytest.raises(ConfigError, match=next(iter(options))):
        build(name, dim=8, codebook_size=16, **options)


def test_a_temperature_before_the_start_is_refused():
    with pytest.raises(ConfigError, match="step"):
        build("gumbel", dim=8, codebook_size=16).set_step(-3)
