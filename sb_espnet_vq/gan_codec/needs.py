"""Requirements of a run, recorded in its saved configuration.

``codec_conf`` in config.yaml has the key `KEY`. For a codec of this package its value
is the import that registers the codec. For a stock codec trained with ``--swap`` it is
the swap: ESPnet loads checkpoints with ``strict=False``, so that a stock quantizer
would silently keep its initial codebooks and give wrong codes. Without this package,
ESPnet refuses the key as an unknown option, whose name and value tell the user what is
needed.
"""

import functools
import re
from argparse import Namespace
from collections.abc import Collection
from types import ModuleType
from typing import Any

from sb_espnet_vq.errors import ConfigError
from sb_espnet_vq.gan_codec.config_errors import of_quantizer

KEY = "needs_sb_espnet_vq"
#: Registers the codecs of this package.
IMPORT = "import sb_espnet_vq.gan_codec"
_LAUNCHER = "python -m sb_espnet_vq.run"


def record_needs(task: Any, quantizers: ModuleType, ours: Collection[str]) -> None:
    """Make a task of ESPnet record the requirements of a run and refuse other swaps.

    Arguments
    ---------
    task : type
        ESPnet's ``GANCodecTask``, whose ``build_model`` is replaced.
    quantizers : module
        Module of ESPnet's quantizer class, which a swap replaces.
    ours : collection of str
        Names of the codecs of this package.
    """
    stock = task.build_model.__func__

    @functools.wraps(stock)
    def build_model(cls, args: Namespace):
        # ESPnet saves the configuration after building the model.
        if args.codec in ours:
            model = stock(cls, args)
            args.codec_conf = {**args.codec_conf, KEY: IMPORT}
            return model
        swap = getattr(quantizers.ResidualVectorQuantizer, "swap", None)
        needs = f"--swap {swap}" if swap else None
        recorded = args.codec_conf.get(KEY)
        if recorded == IMPORT:
            raise ConfigError(
                f"codec_conf.{KEY}: {args.codec} is not a codec of sb_espnet_vq, but "
                f"the configuration needs one; set codec to it ({', '.join(ours)})"
            )
        if recorded not in (None, needs):
            raise ConfigError(
                f"codec_conf.{KEY}: this run was trained with {recorded}, but this "
                f"process has {needs or 'the stock quantizer'}; start the program as "
                f"`{_LAUNCHER} {recorded} ...`"
            )
        conf = {name: value for name, value in args.codec_conf.items() if name != KEY}
        args.codec_conf = conf
        if not needs:
            return stock(cls, args)
        # Errors name the options as written in the swap.
        given = re.findall(r",(\w+)=", needs)
        with of_quantizer(needs, needs.partition(",")[0] + ",{}=...", given):
            model = stock(cls, args)
        args.codec_conf = {**conf, KEY: needs}
        return model

    task.build_model = classmethod(build_model)
