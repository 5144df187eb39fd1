"""ESPnet's codecs with any registered quantizer: `vq_soundstream` and others.

``python -m sb_espnet_vq.run -m espnet2.bin.gan_codec_train --codec vq_soundstream``
registers them; so does ``import sb_espnet_vq.gan_codec``.
"""

import inspect
import math
from collections.abc import Mapping
from typing import Any

from espnet2.gan_codec.dac.dac import DAC
from espnet2.gan_codec.encodec.encodec import Encodec
from espnet2.gan_codec.funcodec.funcodec import FunCodec
from espnet2.gan_codec.hificodec.hificodec import HiFiCodec
from espnet2.gan_codec.soundstream.soundstream import SoundStream
from torch import Tensor

from sb_espnet_vq.errors import ConfigError
from sb_espnet_vq.gan_codec.by_name import CODECS, QuantizerByName
from sb_espnet_vq.gan_codec.groups import GroupQuantizer

__all__ = [
    "CODECS",
    "VQDAC",
    "VQEncodec",
    "VQFunCodec",
    "VQHiFiCodec",
    "VQSoundStream",
]

# Channels of a spectrum in each domain that ESPnet can train.
_CHANNELS = {"mag_phase": 3, "mag_angle": 2}


class VQSoundStream(QuantizerByName, SoundStream, name="vq_soundstream"):
    """SoundStream of ESPnet with any registered quantizer.

    Zeghidour et al. 2021, https://arxiv.org/abs/2107.03312. Takes the options of
    ``espnet2.gan_codec.soundstream.SoundStream``, plus ``quantizer`` and
    ``quantizer_conf``. With ``quantizer: rvq`` a checkpoint of ESPnet's codec loads
    and gives the same codes.
    """


class VQEncodec(QuantizerByName, Encodec, name="vq_encodec"):
    """Encodec of ESPnet with any registered quantizer.

    Defossez et al. 2022, https://arxiv.org/abs/2210.13438. Otherwise as
    `VQSoundStream`.
    """

    @classmethod
    def _adapt(cls, options: dict[str, inspect.Parameter]) -> None:
        # ESPnet's default lacks one level of nesting that the discriminator expects.
        flat = options["discriminator_params"]
        nested = {"msstft_discriminator_params": flat.default}
        options["discriminator_params"] = flat.replace(default=nested)


class VQDAC(QuantizerByName, DAC, name="vq_dac"):
    """DAC of ESPnet with any registered quantizer.

    Kumar et al. 2023, https://arxiv.org/abs/2306.06546. Otherwise as
    `VQSoundStream`.
    """

    _unpacks_quantization_loss = True


class VQFunCodec(QuantizerByName, FunCodec, name="vq_funcodec"):
    """FunCodec of ESPnet, which codes spectra, with any registered quantizer.

    Du et al. 2023, https://arxiv.org/abs/2309.07405, "FreqCodec". ESPnet can train it
    with ``codec_domain: [mag_phase, mag_phase]``, the default here, or ``[mag_angle,
    mag_angle]``. Otherwise as `VQSoundStream`.
    """

    _unpacks_quantization_loss = True
    _looked_up = (
        *QuantizerByName._looked_up,
        *("encdec_channels", "codec_domain", "domain_conf"),
    )

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        # ESPnet's values ignore the hop of the spectrum and count the factors along
        # frequency.
        hop = self.generator.domain_conf.get("hop_length", 160)
        self.frame_shift = hop * int(self.generator.encoder.hop_length)
        self.generator.frame_rate = math.ceil(self.fs / self.frame_shift)

    @classmethod
    def _adapt(cls, options: dict[str, inspect.Parameter]) -> None:
        # ESPnet's default is a waveform, which its two-dimensional encoder rejects.
        theirs = options["generator_params"]
        spectra = {
            "encdec_channels": _CHANNELS["mag_phase"],
            "encdec_ratios": [[4, 1], [4, 1], [4, 2], [4, 1]],
            "codec_domain": ["mag_phase", "mag_phase"],
            "domain_conf": {"n_fft": 512, "hop_length": 160},
        }
        options["generator_params"] = theirs.replace(default=theirs.default | spectra)

    @classmethod
    def _check_conf(cls, conf: Mapping[str, Any]) -> None:
        place, params = "codec_conf.generator_params", conf["generator_params"]
        ratios = params["encdec_ratios"]
        if not all(isinstance(each, (list, tuple)) for each in ratios):
            raise ConfigError(
                f"{place}.encdec_ratios must be pairs of factors along frequency and "
                f"time, such as [[4, 1], [4, 2]], got {ratios!r}"
            )
        domain = list(params["codec_domain"])
        if len(set(domain)) != 1 or domain[0] not in _CHANNELS:
            raise ConfigError(
                f"{place}.codec_domain must be {' or '.join(map(_twice, _CHANNELS))}, "
                f"got {domain}: ESPnet fails in training with others"
            )
        channels = params["encdec_channels"]
        if channels != _CHANNELS[domain[0]]:
            raise ConfigError(
                f"{place}.encdec_channels must be {_CHANNELS[domain[0]]} for "
                f"{domain[0]}, got {channels}"
            )
        n_fft = params["domain_conf"].get("n_fft", 512)
        factor = math.prod(each[0] for each in ratios)
        if n_fft != 2 * factor:
            raise ConfigError(
                f"{place}.domain_conf.n_fft must be {2 * factor}, twice the product of "
                f"the factors along frequency in encdec_ratios, got {n_fft}"
            )
        if conf["use_dual_decoder"]:
            raise ConfigError(
                "codec_conf.use_dual_decoder must be false: ESPnet's FunCodec would "
                "compare a spectrum with the audio"
            )

    def _encode(self, x: Tensor, target_bw: float | None = None, **_) -> Tensor:
        # ESPnet's method ignores the bandwidth, and fails for a single signal.
        return self.generator.encode(x[None] if x.dim() == 1 else x, target_bw)


class VQHiFiCodec(QuantizerByName, HiFiCodec, name="vq_hificodec"):
    """HiFi-Codec of ESPnet, with one quantizer for each half of the channels.

    Yang et al. 2023, https://arxiv.org/abs/2305.02765. ESPnet has the class, but not
    among the choices of ``--codec``. A frame has the codes of both groups, so that
    there are ``2 * quantizer_n_q`` codebooks; a bandwidth is that of one group, as in
    ESPnet. Otherwise as `VQSoundStream`.
    """

    _looked_up = ("upsample_rates", "quantizer_bins", "quantizer_n_q")

    @classmethod
    def _check_conf(cls, conf: Mapping[str, Any]) -> None:
        place, params = "codec_conf.generator_params", conf["generator_params"]
        rates = params["upsample_rates"]
        if len(rates) != 4:
            raise ConfigError(
                f"{place}.upsample_rates must be four factors, got {rates}: the width "
                "of ESPnet's encoder is fixed to four doublings"
            )
        if params.get("hidden_dim", 256) != 256:
            raise ConfigError(
                f"{place}.hidden_dim must be 256, got {params['hidden_dim']}: ESPnet's "
                "quantizer splits 512 channels into two groups"
            )

    def _replace_quantizer(self, make) -> None:
        groups = self.generator.quantizer
        self.generator.quantizer = GroupQuantizer(
            make(groups.quantizer0), make(groups.quantizer1)
        )

    def _encode(self, x: Tensor, target_bw: float | None = None, **_) -> Tensor:
        # ESPnet's method ignores the bandwidth.
        return self.generator.encode(x, target_bw)


def _twice(domain: str) -> str:
    return f"[{domain}, {domain}]"
