"""What a saved configuration says of the process that can read it.

A codec's ``codec_conf`` in config.yaml holds the key `KEY`. For a codec of this package
it is the import that registers it. For a stock codec trained under ``--swap`` it is the
swap: ESPnet reads checkpoints without strictness, so that a stock quantizer would keep
its initial codebooks and give wrong codes without a word. ESPnet alone refuses the key
as an unknown option, whose name and value say what to do.
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
#: What registers the codecs of this package.
IMPORT = "import sb_espnet_vq.gan_codec"
_LAUNCHER = "python -m sb_espnet_vq.run"


def record_needs(task: Any, quantizers: ModuleType, ours: Collection[str]) -> None:
    """Let a task of ESPnet record what a run needs, and refuse another swap.

    Arguments
    ---------
    task : type
        ESPnet's ``GANCodecTask``, whose ``build_model`` is replaced.
    quantizers : module
        That of ESPnet's quantizer class, which a swap replaces.
    ours : collection of str
        Names of the codecs of this package.
    """
    stock = task.build_model.__func__

    @functools.wraps(stock)
    def build_model(cls, args: Namespace):
        # ESPnet saves the configuration after it has built the model.
        if args.codec in ours:
            model = stock(cls, args)
            args.codec_conf = {**args.codec_conf, KEY: IMPORT}
            return model
        swap = getattr(quantizers.ResidualVectorQuantizer, "swap", None)
        needs = f"--swap {swap}" if swap else None
        recorded = args.codec_conf.get(KEY)
        if recorded == IMPORT:
            raise ConfigError(
                f"codec_conf.{KEY}: {args.codec} is no codec of sb_espnet_vq, but the "
                f"configuration is of one; name that ({', '.join(ours)})"
            )
        if recorded not in (None, needs):
            raise ConfigError(
                f"codec_conf.{KEY}: this run was trained with {recorded}, but here "
                f"{needs or 'the quantizer is the stock one'}; start the program as "
                f"`{_LAUNCHER} {recorded} ...`"
            )
        conf = {name: value for name, value in args.codec_conf.items() if name != KEY}
        args.codec_conf = conf
        if not needs:
            return stock(cls, args)
        # The options of a swap stand in its text, where an error names them.
        given = re.findall(r",(\w+)=", needs)
        with of_quantizer(needs, needs.partition(",")[0] + ",{}=...", given):
            model = stock(cls, args)
        args.codec_conf = {**conf, KEY: needs}
        return model

    task.build_model = classmethod(build_model)
