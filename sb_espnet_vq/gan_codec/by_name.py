"""What the codecs share: ESPnet's codec with a quantizer by name."""

import copy
import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, ClassVar

import torch
from espnet2.gan_codec.abs_gan_codec import AbsGANCodec
from torch import Tensor

from sb_espnet_vq.errors import ConfigError, ShapeError
from sb_espnet_vq.gan_codec import config_errors
from sb_espnet_vq.gan_codec.needs import IMPORT
from sb_espnet_vq.gan_codec.quantizers import CodecQuantizer
from sb_espnet_vq.gan_codec.streams import StreamsOfQuantizer
from sb_espnet_vq.quantizers.chain import beam_options
from sb_espnet_vq.quantizers.options import options_of, plain
from sb_espnet_vq.registry import options_of_class

#: Codecs by their name in `--codec`.
CODECS: dict[str, type[torch.nn.Module]] = {}

_KEYWORD = inspect.Parameter.KEYWORD_ONLY


class QuantizerByName(StreamsOfQuantizer):
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
    # ESPnet's codecs require these in `generator_params`, although its generators have
    # defaults; without them, a shorter configuration would raise KeyError.
    _looked_up: ClassVar[tuple[str, ...]] = (
        "encdec_ratios",
        "quantizer_bins",
        "quantizer_n_q",
    )

    def __init_subclass__(cls, name: str | None = None, **kwargs):
        super().__init_subclass__(**kwargs)
        if name:
            CODECS[name] = cls  # type: ignore[assignment]
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
        params = conf["generator_params"]
        for name in self._looked_up:
            params.setdefault(name, copy.copy(defaults["generator_params"][name]))
        self._check_conf(conf)
        others = {name: _defaults(codec) for name, codec in CODECS.items()}
        with config_errors.of_espnet(conf, others):
            super().__init__(**conf)
        self._replace_quantizer(partial(self._make, quantizer, own, beam))

    @classmethod
    def _adapt(cls, options: dict[str, inspect.Parameter]) -> None:
        """Change defaults of ESPnet that cannot be built or trained."""

    @classmethod
    def _check_conf(cls, conf: Mapping[str, Any]) -> None:
        """Raise ConfigError for options with which ESPnet fails in training."""

    def _replace_quantizer(self, make: Callable[[Any], CodecQuantizer]) -> None:
        """Replace the quantizer of the generator by ``make(quantizer)``."""
        self.generator.quantizer = make(self.generator.quantizer)

    def _make(
        self, name: str, own: dict[str, Any], beam: int, theirs: Any
    ) -> CodecQuantizer:
        """Return a quantizer by name in place of one of ESPnet."""
        if isinstance(theirs, CodecQuantizer):
            raise ConfigError(
                f"--swap puts {theirs.quantizer} into the stock codecs, but "
                f"{type(self).__name__} takes its quantizer from codec_conf.quantizer "
                f"({name}): remove --swap and set the quantizer there, or use the "
                "stock codec"
            )
        place = f"codec_conf.quantizer ({name})"
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
                quantizer=name,
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
        return ours

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

        Arguments
        ---------
        x : torch.Tensor
            (B, 1, L) float.
        **kwargs
            ``target_bw``: bandwidth in kbit/s; default: the last of
            ``quantizer_target_bandwidth``.

        Raises
        ------
        ShapeError
            If the audio is empty.
        ValueError
            If the audio is not finite (see `CodecQuantizer.encode`).
        """
        if x.numel() == 0:
            raise ShapeError(f"{type(self).__name__}: the audio to encode is empty")
        return self._encode(x, **kwargs)

    def _encode(self, x: Tensor, **kwargs) -> Tensor:
        return super().encode(x, **kwargs)  # type: ignore[misc]


def _stock(codec: type[QuantizerByName]) -> dict[str, inspect.Parameter]:
    """Return the options of ESPnet's codec that ``codec`` derives from."""
    upstream = next(
        each
        for each in codec.__mro__
        if issubclass(each, AbsGANCodec) and not issubclass(each, QuantizerByName)
    )
    given = options_of_class(upstream)
    options = {name: each.replace(kind=_KEYWORD) for name, each in given.items()}
    codec._adapt(options)
    return options


def _defaults(codec: Any) -> dict[str, Any]:
    return {name: each.default for name, each in _stock(codec).items()}


def _shapes(state: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in state.items()}
