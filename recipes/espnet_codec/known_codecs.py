"""Codecs that a training configuration of ESPnet can name."""

import contextlib
import copy
import difflib
import importlib.metadata
import warnings
from pathlib import Path
from typing import Any

from sb_espnet_vq.errors import ConfigError


def codec_class(name: str, path: Path) -> type:
    """Find a codec of this package (`vq_...`) or of ESPnet; an error names `path`."""
    group = importlib.metadata.entry_points(group="espnet2.gan_codec")
    # The group also contains quantizers.
    known = {each.name: each for each in group if each.name.startswith("vq_")}
    if name in known:
        return known[name].load()
    stock = {} if name.startswith("vq_") else stock_codecs()
    if name in stock:
        return stock[name]
    listed = ", ".join(sorted(known)) or "none, so sb_espnet_vq is not installed"
    if stock:
        listed += f"; of ESPnet {', '.join(sorted(stock))}"
    near = difflib.get_close_matches(name, [*known, *stock], 1, 0.8)
    hint = f" (did you mean {near[0]}?)" if near else ""
    raise ConfigError(f"{path}: no codec {name!r}{hint}; known are {listed}")


def stock_codecs() -> dict[str, type]:
    """Return ESPnet's own codecs."""
    # The import takes seconds and prints download errors.
    with contextlib.redirect_stderr(None), contextlib.redirect_stdout(None):
        from espnet2.tasks.gan_codec import codec_choices
    return {
        name: codec
        for name, codec in codec_choices.classes.items()
        if not name.startswith("vq_")
    }


def check_codec(config: dict[str, Any], path: Path) -> None:
    """Build the codec, so that errors appear before data are prepared."""
    name, conf = config["codec"], config["codec_conf"]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # ESPnet's codecs modify their arguments.
            codec_class(name, path)(**copy.deepcopy(conf))
    except ConfigError:
        raise
    except Exception as error:
        # ESPnet's constructors check few arguments, so any error can occur.
        line = " ".join(f"{type(error).__name__}: {error}".split())
        raise ConfigError(
            f"{path}: ESPnet cannot build codec {name} from this codec_conf ({line})"
        ) from None
