"""Effects of `import sb_espnet_vq.gan_codec` on ESPnet, and the errors it prevents."""

import subprocess
import sys

import pytest
import torch
import yaml
from espnet2.bin.gan_codec_inference import AudioCoding
from saved_codecs import PLACE, STOCK, save, swapped
from tiny_codecs import codec_conf

from sb_espnet_vq import ConfigError, list_quantizers
from sb_espnet_vq.gan_codec.codecs import CODECS

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:torch|espnet2")


def run(code, *arguments):
    """Run code in a fresh interpreter."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


INFER = """
import sys, torch
from espnet2.bin.gan_codec_inference import AudioCoding
coding = AudioCoding(*sys.argv[1:3])
print(coding(torch.randn(160))["codes"].shape)
"""
IMPORT = "import sb_espnet_vq.gan_codec\n"


@pytest.mark.slow
@pytest.mark.parametrize("order", ["before", "after"])
def test_the_import_that_a_saved_configuration_names_registers(order, tmp_path):
    files = save(tmp_path, "vq_soundstream", quantizer="bsq")
    code = INFER
    if order == "before":
        code = IMPORT + "assert not {'torch', 'espnet2'} & {*sys.modules}\n" + code
        code = "import sys\n" + code
    else:
        code = code.replace("coding =", IMPORT + "coding =")
    done = run(code, *files)
    assert done.stdout.endswith("torch.Size([1, 1, 20])\n"), done.stderr
    assert "must be one of" in run(INFER, *files).stderr


def test_a_component_needs_no_espnet():
    code = """
import sys
sys.modules["espnet2"] = None
from sb_espnet_vq.gan_codec.components import BSQComponent
print(BSQComponent(8, bins=16).bins)
"""
    assert run(code).stdout == "16\n"


# ----------------------------------------------------------- a run keeps its swap


def test_a_run_records_its_swap_and_is_read_with_it_alone(tmp_path):
    with swapped("bsq,entropy_weight=1e-1"):
        files = save(tmp_path, "soundstream")
    recorded = yaml.safe_load(files[0].read_text())["codec_conf"]["needs_sb_espnet_vq"]
    assert recorded == f"--swap {PLACE}=bsq,entropy_weight=0.1"
    with pytest.raises(ConfigError) as caught:
        AudioCoding(*map(str, files))
    assert f"python -m sb_espnet_vq.run {recorded} ..." in str(caught.value)
    with (
        swapped("bsq"),
        pytest.raises(ConfigError, match="process has --swap .*=bsq;"),
    ):
        AudioCoding(*map(str, files))
    with swapped("bsq,entropy_weight=0.10"):
        coding = AudioCoding(*map(str, files))
    assert coding(torch.randn(160))["codes"].shape == (1, 1, 20)


@pytest.mark.slow
def test_espnet_alone_refuses_a_run_with_a_swap(tmp_path):
    with swapped("bsq"):
        files = save(tmp_path, "soundstream")
    done = run(INFER, *files)
    assert done.returncode == 1
    assert "unexpected keyword argument 'needs_sb_espnet_vq'" in done.stderr


def test_a_run_without_a_swap_says_nothing_of_one(tmp_path):
    files = save(tmp_path, "soundstream")
    assert "needs_sb_espnet_vq" not in files[0].read_text()
    assert AudioCoding(*map(str, files))(torch.randn(160))["codes"].shape[0] == 4
    # A swap to the class's own quantizer has none either: ESPnet alone can load it.
    with swapped("rvq"):
        files = save(tmp_path, "soundstream")
    assert "needs_sb_espnet_vq" not in files[0].read_text()
    assert AudioCoding(*map(str, files))(torch.randn(160))["codes"].shape[0] == 4


def test_a_configuration_of_a_codec_by_name_is_none_of_a_stock_codec(tmp_path):
    config, model = save(tmp_path, "vq_soundstream", quantizer="bsq")
    config.write_text(config.read_text().replace("codec: vq_", "codec: "))
    with pytest.raises(ConfigError, match="soundstream is not a codec of sb_espnet_vq"):
        AudioCoding(str(config), str(model))


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("codec", STOCK)
@pytest.mark.parametrize("quantizer_name", [f for f in list_quantizers() if f != "rvq"])
def test_a_stock_codec_refuses_the_state_of_another_quantizer(
    codec, quantizer_name, strict
):
    conf = codec_conf(f"vq_{codec}")
    with swapped(quantizer_name):
        state = STOCK[codec](**conf).state_dict()
    with pytest.raises(RuntimeError, match="written with another quantizer than"):
        STOCK[codec](**conf).load_state_dict(state, strict=strict)


@pytest.mark.parametrize("codec", STOCK)
def test_a_state_that_lacks_codebooks_is_refused(codec):
    conf = codec_conf(f"vq_{codec}")
    less = codec_conf(f"vq_{codec}")
    less["generator_params"] |= {"quantizer_n_q": 2}
    state = STOCK[codec](**less).state_dict()
    for each in (STOCK[codec](**conf), CODECS[f"vq_{codec}"](**conf)):
        with pytest.raises(RuntimeError, match="it lacks .*layers.2"):
            each.load_state_dict(state, strict=False)
        # Checkpoints of other models can still be loaded with strict=False.
        each.load_state_dict({}, strict=False)


@pytest.mark.parametrize("codec", CODECS)
def test_a_swap_beside_a_codec_that_names_its_quantizer_is_refused(codec):
    for quantizer_name in ("bsq", "rvq"):
        with swapped(quantizer_name), pytest.raises(ConfigError, match="remove --swap"):
            CODECS[codec](**codec_conf(codec))
