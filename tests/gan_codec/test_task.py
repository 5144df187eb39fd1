"""Places that name a task class or a codec class in their configuration."""

import espnetez
import pytest
import torch
from espnetez.task import TASK_CLASSES
from hydra.utils import instantiate
from test_codecs import codec_conf, speech, train_configuration

from sb_espnet_vq.gan_codec.codecs import VQDAC
from sb_espnet_vq.gan_codec.task import VQGANCodecTask

__all__ = ["speech"]


@pytest.fixture
def ez_task(monkeypatch):
    monkeypatch.setitem(TASK_CLASSES, "vq_gan_codec", VQGANCodecTask)
    return "vq_gan_codec"


@pytest.mark.slow
def test_espnetez_trains(ez_task, speech, tmp_path):
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


def test_hydra_builds_a_codec():
    conf = {"_target_": "sb_espnet_vq.gan_codec.codecs.VQDAC", "quantizer": "bsq"}
    codec = instantiate(conf | codec_conf("vq_dac"), _convert_="all")
    assert isinstance(codec, VQDAC) and codec.num_streams == 1
