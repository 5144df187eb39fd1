"""YAML files of users may name the modules of version 0.1 by their old paths."""

import pytest
from hyperpyyaml import load_hyperpyyaml

from sb_espnet_vq import lobes

# A class or function of each module that moved.
OLD = {
    "batches": "SecondsBatchSampler",
    "checkpoints": "WholeCheckpointer",
    "codec": "Codec",
    "codec_discriminator": "SpectralDiscriminator",
    "codec_networks": "ConvEncoder",
    "contrastive_scores": "contrastive_logits",
    "front_ends": "LogMelFrontEnd",
    "negatives": "Negatives",
    "normalization": "CorpusNormalization",
    "piq_dictionary": "VQEmbedding",
    "piq_networks": "ResBlockAudio",
    "positions": "LongPositionalEncoding",
    "schedules": "WarmupDecay",
    "span_masks": "span_masks",
    "spectral_losses": "SpectralLoss",
}


def test_every_moved_module_is_listed():
    assert set(OLD) == set(lobes._MOVED)


@pytest.mark.parametrize("module", OLD)
def test_an_old_path_works_and_names_the_new_one(module):
    text = f"it: !name:sb_espnet_vq.lobes.{module}.{OLD[module]}"
    with pytest.warns(FutureWarning, match=lobes._MOVED[module]):
        loaded = load_hyperpyyaml(text)["it"]
    assert loaded.__module__ == f"sb_espnet_vq.{lobes._MOVED[module]}"


def test_an_unknown_module_is_refused():
    with pytest.raises(AttributeError, match="no_such"):
        _ = lobes.no_such
