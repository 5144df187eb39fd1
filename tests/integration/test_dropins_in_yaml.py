"""A user's YAML in which only the first word of the class path changes."""

import io

import pytest
import torch
from hyperpyyaml import load_hyperpyyaml

BEST_RQ = """
seed: 1000
__set_seed: !apply:torch.manual_seed [!ref <seed>]
p_input: 320
cb_dim: 16
cb_vocab: 8192
linear: !new:speechbrain.nnet.linear.Linear
    input_size: 8
    n_neurons: !ref <cb_vocab>
Quantizer: !new:speechbrain.nnet.quantisers.RandomProjectionQuantizer
    input_dim: !ref <p_input>
    cb_dim: !ref <cb_dim>
    cb_vocab: !ref <cb_vocab>
modules:
    Quantizer: !ref <Quantizer>
    linear: !ref <linear>
"""
FOCALCODEC = """
quantizer: !new:speechbrain.lobes.models.bsq.BinarySphericalQuantizer
    code_dim: 13
    entropy_loss_weight: 0.1
    diversity_gamma: 1.0
"""
PIQ = """
psi_model: !new:speechbrain.lobes.models.PIQ.VectorQuantizedPSI_Audio
    dim: 16
    K: 100
    shared_keys: 0
    activate_class_partitioning: True
    use_adapter: True
    adapter_reduce_dim: True
"""
WAV2VEC2 = """
target_quantiser: !new:speechbrain.lobes.models.wav2vec.W2VTargetQuantiser
    in_dim: 16
    out_dim: 8
    quantiser: !name:speechbrain.nnet.quantisers.GumbelVectorQuantizer
    num_vars: 20
    temperature_decay: (2.0, 0.25, 0.999995)
"""


def load(yaml: str, swap: bool):
    """Build a YAML, with our class paths or upstream's, from the same seed."""
    for module in ("nnet.quantisers", "lobes.models.bsq", "lobes.models.PIQ"):
        if swap:
            yaml = yaml.replace(f"speechbrain.{module}", f"sb_espnet_vq.{module}")
    torch.manual_seed(0)
    return load_hyperpyyaml(io.StringIO(yaml))


def test_best_rq_gives_the_same_labels_for_the_same_seed():
    expected, got = (load(BEST_RQ, swap)["Quantizer"] for swap in (False, True))
    assert type(got).__module__ == "sb_espnet_vq.nnet.quantisers"
    x = torch.randn(2, 100, 320)
    assert torch.equal(got(x), expected(x))
    got.load_state_dict(expected.state_dict(), strict=True)


def test_focalcodec_gives_the_same_codes():
    expected, got = (load(FOCALCODEC, swap)["quantizer"] for swap in (False, True))
    x = torch.randn(2, 40, 13)
    assert torch.equal(got(x)[1], expected(x)[1])
    got.load_state_dict(expected.state_dict(), strict=True)


def test_piq_gives_the_same_spectrogram():
    expected, got = (load(PIQ, swap)["psi_model"].eval() for swap in (False, True))
    x, labels = torch.randn(2, 16, 16, 16), torch.tensor([3, 41])
    with torch.no_grad():
        torch.testing.assert_close(got(x, labels), expected(x, labels))


@pytest.mark.parametrize("training", [True, False])
def test_wav2vec2_gives_the_same_targets(training):
    results = []
    for swap in (False, True):
        target = load(WAV2VEC2, swap)["target_quantiser"].train(training)
        target.quantiser.update_temp(10)
        torch.manual_seed(1)
        results.append(target(torch.randn(2, 30, 16)))
    (expected, expected_meta), (got, got_meta) = results
    torch.testing.assert_close(got, expected)
    torch.testing.assert_close(got_meta, expected_meta)
