"""Codecs saved as ESPnet's training saves them, and a swap within this process."""

from argparse import Namespace
from contextlib import contextmanager

import pytest
import torch
import yaml
from espnet2.gan_codec.dac import dac
from espnet2.gan_codec.encodec import encodec
from espnet2.gan_codec.funcodec import funcodec
from espnet2.gan_codec.hificodec import module as hificodec
from espnet2.gan_codec.shared.quantizer import residual_vq
from espnet2.gan_codec.soundstream import soundstream
from espnet2.tasks.gan_codec import GANCodecTask
from tiny_codecs import codec_conf

import sb_espnet_vq.gan_codec  # noqa: F401  registers the codecs
from sb_espnet_vq.launcher.swaps import read_swap

PLACE = "espnet2.gan_codec.shared.quantizer.residual_vq.ResidualVectorQuantizer"
STOCK = {
    "soundstream": soundstream.SoundStream,
    "encodec": encodec.Encodec,
    "dac": dac.DAC,
    "funcodec": funcodec.FunCodec,
}


@contextmanager
def swapped(quantizer):
    """Replace ESPnet's class by a quantizer, as `--swap` does."""
    name = "ResidualVectorQuantizer"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(residual_vq, name, getattr(residual_vq, name))
        read_swap(f"{PLACE}={quantizer}")._replace(residual_vq)
        for module in (soundstream, dac, funcodec, hificodec):
            patch.setattr(module, name, getattr(residual_vq, name))
        yield


def save(folder, codec, generator=None, **conf):
    """Write config.yaml and model.pth of an untrained codec; return both paths."""
    torch.manual_seed(0)
    named = codec if codec.startswith("vq_") else f"vq_{codec}"
    codec_options = codec_conf(named, **conf)
    codec_options["generator_params"] |= generator or {}
    args = Namespace(
        codec=codec,
        codec_conf=codec_options,
        model_conf={},
        use_preprocessor=True,
        iterator_type="sequence",
    )
    model = GANCodecTask.build_model(args)
    # An untrained encoder gives nearly the same frame everywhere.
    for name, weight in model.codec.generator.encoder.named_parameters():
        if name.endswith("original0"):
            weight.data *= 3
    folder.mkdir(exist_ok=True)
    files = folder / "config.yaml", folder / "model.pth"
    files[0].write_text(yaml.safe_dump(vars(args)))
    torch.save(model.state_dict(), files[1])
    return files
