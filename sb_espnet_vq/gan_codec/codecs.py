"""ESPnet's codecs with any quantizer: `vq_soundstream`, `vq_encodec`, `vq_dac`.

``python -m sb_espnet_vq.run -m espnet2.bin.gan_codec_train --codec vq_soundstream``
registers them; so does ``import sb_espnet_vq.gan_codec``.
"""

import copy
import inspect
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from espnet2.gan_codec.dac.dac import DAC
from espnet2.gan_codec.encodec.encodec import Encodec
from espnet2.gan_codec.soundstream.soundstream import SoundStream
from torch import Tensor

from sb_espnet_vq.errors import ConfigError, ShapeError
from sb_espnet_vq.gan_codec import config_errors
from sb_espnet_vq.gan_codec.needs import IMPORT
from sb_espnet_vq.gan_codec.quantizers import CodecQuantizer
from sb_espnet_vq.gan_codec.streams import StreamsOfQuantizer
from sb_espnet_vq.quantizers.chain import beam_options
from sb_espnet_vq.quantizers.options import options_of, plain
from sb_espnet_vq.registry import options_of_class

__all__ = ["CODECS", "VQDAC", "VQEncodec", "VQSoundStream"]


class _QuantizerByName(StreamsOfQuantizer):
    """Mixin that replaces the quantizer of an ESPnet codec by a registered one.

    Options that are mappings accept any mapping type, such as OmegaConf's.

    Arguments
    ---------
    quantizer : str
        A registered name, or the full path of a class.
    quantizer_conf : Mapping, optional
        Options of the quantizer; they override those of ``generator_params``.
    beam : int
        Chains of codes that ``encode`` keeps, if the quantizer is a residual one. Not
        used in training, so it may be changed in the configuration of a trained codec.
    needs_sb_espnet_vq : str
        Import that registers this codec in ESPnet, recorded in saved
        configurations.
    **codec_conf
        ESPnet's options, with ESPnet's defaults.

    Raises
    ------
    ConfigError
        If an option is invalid; the error names its key in the YAML.
    """

    __signature__: inspect.Signature
    generator: Any
    frame_shift: int
    # Whether the generator unpacks five values from its quantizer, not four.
    _unpacks_quantization_loss: ClassVar[bool] = False

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        # --print_config shows this signature; it also provides defaults.
        own = [
            inspect.Parameter("quantizer", _KEYWORD, default="rvq"),
            inspect.Parameter("quantizer_conf", _KEYWORD, default={}),
            inspect.Parameter("beam", _KEYWORD, default=1),
            inspect.Parameter("needs_sb_espnet_vq", _KEYWORD, default=IMPORT),
        ]
        cls.__signature__ = inspect.Signature([*_stock(cls).values(), *own])

    def __init__(
        self,
        quantizer: str = "rvq",
        quantizer_conf: Mapping[str, Any] | None = None,
        beam: int = 1,
        needs_sb_espnet_vq: str = IMPORT,
        **codec_conf,
    ):
        if needs_sb_espnet_vq != IMPORT:
            raise ConfigError(
                "codec_conf.needs_sb_espnet_vq: this configuration is that of another "
                f"codec, trained with {needs_sb_espnet_vq}; for {type(self).__name__} "
                f"the value must be {IMPORT!r}"
            )
        own = options_of("codec_conf.quantizer_conf", quantizer_conf)
        defaults = _defaults(type(self))
        # ESPnet modifies the dictionaries that it gets, including defaults.
        conf = plain(copy.deepcopy({**defaults, **codec_conf}))
        for name, default in defaults.items():
            if isinstance(default, Mapping):
                conf[name] = options_of(f"codec_conf.{name}", conf[name])
        for name in _LOOKED_UP:
            default = defaults["generator_params"][name]
            conf["generator_params"].setdefault(name, copy.copy(default))
        others = {name: _defaults(codec) for name, codec in CODECS.items()}
        with config_errors.of_espnet(conf, others):
            super().__init__(**conf)
        theirs = self.generator.quantizer
        if isinstance(theirs, CodecQuantizer):
            raise ConfigError(
                f"--swap puts {theirs.quantizer} into the stock codecs, but "
                f"{type(self).__name__} takes its quantizer from codec_conf.quantizer "
                f"({quantizer}): remove --swap and set the quantizer there, or use the "
                "stock codec"
            )
        place = f"codec_conf.quantizer ({quantizer})"
        with config_errors.of_quantizer(place, "codec_conf.quantizer_conf.{}", own):
            ours = CodecQuantizer(
                dimension=theirs.dimension,
                codebook_dim=theirs.codebook_dim,
                n_q=theirs.n_q,
                bins=theirs.bins,
                decay=theirs.decay,
                kmeans_init=theirs.kmeans_init,
                kmeans_iters=theirs.kmeans_iters,
                threshold_ema_dead_code=theirs.threshold_ema_dead_code,
                quantizer_dropout=theirs.quantizer_dropout,
                quantizer=quantizer,
                quantizer_conf=own,
                quantization_loss=self._unpacks_quantization_loss,
            )
        with config_errors.of_quantizer("codec_conf.beam", "codec_conf.{}", ["beam"]):
            beam_options(ours.vq, beam)
        ours.beam = beam
        state = theirs.state_dict()
        if not own and _shapes(ours.state_dict()) == _shapes(state):
            # A seed then gives the same codec as in ESPnet.
            ours.load_state_dict(state)
        self.generator.quantizer = ours

    def forward(self, audio: Tensor, forward_generator: bool = True, **kwargs) -> dict:
        """Run a step of the generator or of the discriminator.

        Arguments
        ---------
        audio : torch.Tensor
            (B, T) float, T a multiple of ``frame_shift`` samples.
        forward_generator : bool
            Whether to run the generator step.

        Returns
        -------
        dict
            As ESPnet's trainer expects it.

        Raises
        ------
        ShapeError
            If T is 0 or not such a multiple, since the decoder's output would have
            another length.
        """
        if audio.shape[-1] == 0 or audio.shape[-1] % self.frame_shift:
            raise ShapeError(
                f"{type(self).__name__}: training needs audio whose length is a "
                f"multiple of {self.frame_shift} samples (one frame), got "
                f"{audio.shape[-1]}; set chunk_length to such a multiple with "
                "iterator_type: chunk"
            )
        forward = super().forward  # type: ignore[misc]
        return forward(audio, forward_generator=forward_generator, **kwargs)

    def encode(self, x: Tensor, **kwargs) -> Tensor:
        """Return the codes (n, B, T) of audio, as ESPnet's codec does.

        Raises
        ------
        ShapeError
            If the audio is empty.
        ValueError
            If the audio is not finite (see `CodecQuantizer.encode`).
        """
        if x.numel() == 0:
            raise ShapeError(f"{type(self).__name__}: the audio to encode is empty")
        return super().encode(x, **kwargs)  # type: ignore[misc]


_STOCK = (SoundStream, Encodec, DAC)
# ESPnet's codecs require these in `generator_params`, although its generators have
# defaults; without them, a shorter configuration would raise KeyError.
_LOOKED_UP = ("encdec_ratios", "quantizer_bins", "quantizer_n_q")
_KEYWORD = inspect.Parameter.KEYWORD_ONLY


def _stock(codec: type) -> dict[str, inspect.Parameter]:
    """Return the options of ESPnet's codec that ``codec`` derives from."""
    upstream = next(each for each in codec.__mro__ if each in _STOCK)
    given = options_of_class(upstream)
    options = {name: each.replace(kind=_KEYWORD) for name, each in given.items()}
    if upstream is Encodec:
        # ESPnet's default cannot be built: it lacks one level of nesting that the
        # discriminator expects.
        flat = options["discriminator_params"]
        nested = {"msstft_discriminator_params": flat.default}
        options["discriminator_params"] = flat.replace(default=nested)
    return options


def _shapes(state: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in state.items()}


def _defaults(codec: type) -> dict[str, Any]:
    return {name: each.default for name, each in _stock(codec).items()}


class VQSoundStream(_QuantizerByName, SoundStream):
    """SoundStream of ESPnet with any registered quantizer.

    Zeghidour et al. 2021, https://arxiv.org/abs/2107.03312. Takes the options of
    ``espnet2.gan_codec.soundstream.SoundStream``, plus ``quantizer`` and
    ``quantizer_conf``. With ``quantizer: rvq`` a checkpoint of ESPnet's codec loads
    and gives the same codes.
    """


class VQEncodec(_QuantizerByName, Encodec):
    """Encodec of ESPnet with any registered quantizer.

    Defossez et al. 2022, https://arxiv.org/abs/2210.13438. Otherwise as
    `VQSoundStream`.
    """


class VQDAC(_QuantizerByName, DAC):
    """DAC of ESPnet with any registered quantizer.

    Kumar et al. 2023, https://arxiv.org/abs/2306.06546. Otherwise as
    `VQSoundStream`.
    """

    _unpacks_quantization_loss = True


#: Codecs by their name in `--codec`.
CODECS: dict[str, type[torch.nn.Module]] = {
    "vq_soundstream": VQSoundStream,
    "vq_encodec": VQEncodec,
    "vq_dac": VQDAC,
}
