"""Every registered quantizer in every pipeline: training and checkpoints."""

import logging

import pytest
import torch

from sb_espnet_vq import ConfigError, list_quantizers

pytest.importorskip("speechbrain")
pytest.importorskip("espnet2")

from page import PAGE, REFUSED, WRITTEN, page
from pipelines import PIPELINES

QUANTIZER_NAMES = list_quantizers()
STEPS = 24


@pytest.fixture(autouse=True)
def _quick():
    """Use one thread, since the models are tiny, and disable logging."""
    threads, level = torch.get_num_threads(), logging.root.manager.disable
    torch.set_num_threads(1)
    logging.disable(logging.INFO)
    yield
    torch.set_num_threads(threads)
    logging.disable(level)


@pytest.mark.filterwarnings("ignore")  # the toolkits' own, and of bandwidths
@pytest.mark.parametrize("quantizer_name", QUANTIZER_NAMES)
@pytest.mark.parametrize("pipeline", PIPELINES)
def test_a_cell_trains_and_its_checkpoint_loads(pipeline, quantizer_name, tmp_path):
    build = PIPELINES[pipeline]
    if reason := REFUSED.get((pipeline, quantizer_name)):
        with pytest.raises(ConfigError, match=reason):
            build(quantizer_name, 0)
        return
    trainee = build(quantizer_name, 0)
    losses = [trainee.step() for _ in range(STEPS)]
    assert sum(losses[-3:]) < 0.9 * sum(losses[:3]), losses
    torch.save(trainee.module.state_dict(), tmp_path / "checkpoint")
    expected = trainee.answer()
    fresh = build(quantizer_name, 1)
    assert not same(fresh.answer(), expected)
    state = torch.load(tmp_path / "checkpoint", weights_only=True)
    fresh.module.load_state_dict(state)
    assert same(fresh.answer(), expected)


def same(given, expected):
    assert len(given) == len(expected)
    pairs = zip(given, expected, strict=True)
    return all(torch.equal(mine, theirs) for mine, theirs in pairs)


def test_the_page_is_up_to_date():
    assert list(WRITTEN) == list(PIPELINES)
    assert PAGE.read_text(encoding="utf-8") == page(QUANTIZER_NAMES), (
        "run `python tests/integration/swap_matrix/page.py`"
    )
