"""Configurations that name a task class or a codec class."""

import importlib.util

import pytest
import torch
from hydra.utils import instantiate
from test_codecs import codec_conf, speech, train_configuration

from sb_espnet_vq.gan_codec.codecs import VQDAC, VQSoundStream
from sb_espnet_vq.gan_codec.task import VQGANCodecTask

__all__ = ["speech"]


def part_of_espnet(name):
    """Skip a test if this ESPnet release lacks the package."""
    found = importlib.util.find_spec(name) is not None
    return pytest.mark.skipif(not found, reason=f"this wheel of ESPnet has no {name}")


@pytest.fixture
def ez_task(monkeypatch):
    from espnetez.task import TASK_CLASSES

    monkeypatch.setitem(TASK_CLASSES, "vq_gan_codec", VQGANCodecTask)
    return "vq_gan_codec"


@pytest.mark.slow
@part_of_espnet("espnetez")
def test_espnetez_trains(ez_task, speech, tmp_path):
    import espnetez

    config = espnetez.task.get_ez_task(ez_task).get_default_config()
    config |= train_configuration("vq_soundstream", quantizer="vq")
    config |= {"optim_conf": {}, "optim2_conf": {}}
    trainer = espnetez.Trainer(
        task=ez_task,
        train_config=config,
        train_dump_dir=speech,
        valid_dump_dir=speech,
        data_info={"audio": ["wav.scp", "sound"]},
        output_dir=str(tmp_path / "exp"),
        stats_dir=str(tmp_path / "stats"),
        ngpu=0,
        required=["output_dir"],
    )
    trainer.collect_stats()
    trainer.train()
    state = torch.load(tmp_path / "exp/latest.pth", weights_only=True)
    assert state["codec.generator.quantizer.vq._codebook.inited"].item() == 1


@part_of_espnet("espnet3")
def test_espnet3_builds_the_model_of_the_task():
    from espnet3.utils.task_utils import get_espnet_model

    conf = {"codec": "vq_soundstream", "codec_conf": codec_conf("vq_soundstream")}
    conf["codec_conf"]["quantizer"] = "bsq"
    name = f"{VQGANCodecTask.__module__}.{VQGANCodecTask.__qualname__}"
    model = get_espnet_model(name, conf)
    assert isinstance(model.codec, VQSoundStream)
    assert model.codec.num_streams == 1


def test_hydra_builds_a_codec():
    conf = {"_target_": "sb_espnet_vq.gan_codec.codecs.VQDAC", "quantizer": "bsq"}
    codec = instantiate(conf | codec_conf("vq_dac"), _convert_="all")
    assert isinstance(codec, VQDAC) and codec.num_streams == 1
