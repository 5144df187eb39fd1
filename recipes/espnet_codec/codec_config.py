"""Validation of the codec in a training configuration of ESPnet.

Invalid configurations are refused before data are prepared.
"""

import contextlib
import copy
import difflib
import importlib.metadata
import math
import warnings

from sb_espnet_vq.errors import ConfigError
from sb_espnet_vq.gan_codec.quantizers import CodecQuantizer

# Defaults of ESPnet's codecs.
RATIOS, BINS, N_Q, BANDWIDTHS = [8, 5, 4, 2], 1024, 8, [7.5, 15]


def codec_class(name, path):
    """Find a codec by its name.

    Arguments
    ---------
    name : str
        One of this package (`vq_...`) or of ESPnet.
    path : Path
        Of the configuration, for the message.

    Returns
    -------
    type

    Raises
    ------
    ConfigError
        If there is none.
    """
    group = importlib.metadata.entry_points(group="espnet2.gan_codec")
    # Quantizers are in the group too.
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


def stock_codecs():
    """Return ESPnet's own codecs.

    Returns
    -------
    dict[str, type]
    """
    # The import takes seconds and prints download errors.
    with contextlib.redirect_stderr(None), contextlib.redirect_stdout(None):
        from espnet2.tasks.gan_codec import codec_choices
    return {
        name: found
        for name, found in codec_choices.classes.items()
        if not name.startswith("vq_")
    }


def check_codec(config, path):
    """Build the codec, so that errors appear before data are prepared.

    Arguments
    ---------
    config : dict
        The training configuration.
    path : Path
        Its file, for the message.

    Raises
    ------
    ConfigError
        If it cannot be built.
    """
    name, conf = config["codec"], config["codec_conf"]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # ESPnet's codecs modify their arguments.
            codec_class(name, path)(**copy.deepcopy(conf))
    except ConfigError:
        raise
    except Exception as error:
        # ESPnet's constructors hardly check their arguments: any error can occur.
        line = " ".join(f"{type(error).__name__}: {error}".split())
        raise ConfigError(
            f"{path}: ESPnet cannot build codec {name} from this codec_conf ({line})"
        ) from None


def check_sizes(config):
    """Refuse chunk lengths that are not a multiple of the hop.

    Arguments
    ---------
    config : dict
        The training configuration.

    Raises
    ------
    ConfigError
        If training would fail at its first step.
    """
    ratios = generator(config).get("encdec_ratios", RATIOS)
    if not (
        isinstance(ratios, list)
        and ratios
        and all(type(each) is int and each > 0 for each in ratios)
    ):
        raise ConfigError(
            "encdec_ratios must be a list of whole numbers above 0, such as "
            f"{RATIOS}, not {ratios!r}"
        )
    hop = math.prod(ratios)
    wrong = [each for each in chunk_lengths(config) if each % hop]
    if wrong:
        raise ConfigError(
            f"chunk_length must be a multiple of {hop} samples (one frame, the product "
            f"of encdec_ratios), not {wrong[0]}"
        )


def generator(config):
    """Return the options of the generator.

    Arguments
    ---------
    config : dict
        The training configuration.

    Returns
    -------
    dict
    """
    return config["codec_conf"].get("generator_params") or {}


def chunk_lengths(config):
    """Return the chunk lengths that ESPnet draws from; empty without chunks.

    Arguments
    ---------
    config : dict
        The training configuration.

    Returns
    -------
    list[int]
        Samples.

    Raises
    ------
    ConfigError
        If they are not positive integers.
    """
    if config.get("iterator_type", "sequence") != "chunk":
        return []
    text, lengths = str(config.get("chunk_length", 500)), []
    try:
        for each in text.split(","):
            first, _, last = each.partition("-")
            lengths += range(int(first), int(last or first) + 1)
    except ValueError:
        lengths = []
    if not lengths or min(lengths) < 1:
        raise ConfigError(
            f"chunk_length must be in samples, such as 16000, got {text!r}"
        )
    return lengths


def build_quantizer(conf):
    """Build the quantizer that the codec will have.

    Arguments
    ---------
    conf : dict
        The `codec_conf`.

    Returns
    -------
    CodecQuantizer

    Raises
    ------
    ConfigError
        If its name, an option or a size is wrong.
    """
    params = conf.get("generator_params") or {}
    return CodecQuantizer(
        dimension=params.get("hidden_dim", 128),
        codebook_dim=params.get("codebook_dim", params.get("hidden_dim", 128)),
        n_q=params.get("quantizer_n_q", N_Q),
        bins=params.get("quantizer_bins", BINS),
        quantizer_dropout=params.get("quantizer_dropout", False),
        quantizer=conf.get("quantizer", "rvq"),
        quantizer_conf=conf.get("quantizer_conf") or {},
    )
