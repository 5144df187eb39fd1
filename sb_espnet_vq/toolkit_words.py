"""Translation of SpeechBrain's and ESPnet's argument names to quantizer options."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from sb_espnet_vq.errors import ConfigError
from sb_espnet_vq.quantizers.base import Quantizer
from sb_espnet_vq.quantizers.options import options_of
from sb_espnet_vq.registry import find_quantizer, quantizer_options

# Options of every quantizer, even of one that declares only **kwargs.
_COMMON = {"dim", "codebook_size"}


def _any(quantizer: type[Quantizer]) -> bool:
    return True


def _draws(quantizer: type[Quantizer]) -> bool:
    return quantizer.draws_codes


def _learns(quantizer: type[Quantizer]) -> bool:
    return not quantizer.frozen


class Word(NamedTuple):
    """Meaning of an argument name of a toolkit.

    Arguments
    ---------
    option : str
        The corresponding option of quantizers.
    applies : callable
        Returns, for a quantizer class, whether its option has the same meaning.
    """

    option: str
    applies: Callable[[type[Quantizer]], bool] = _any


#: Names that are not listed are themselves names of options.
WORDS = {
    # SpeechBrain: GumbelVectorQuantizer, RandomProjectionQuantizer
    "input_dim": Word("dim"),
    "num_vars": Word("codebook_size"),
    "groups": Word("n_codebooks"),
    # Temperature of sampling; that of other quantizers is of a soft assignment.
    "temp_tuple": Word("temperature", _draws),
    "cb_vocab": Word("codebook_size"),
    "cb_dim": Word("code_dim"),
    # SpeechBrain: VQEmbedding
    "K": Word("codebook_size"),
    "D": Word("dim"),
    "numclasses": Word("num_classes"),
    # SpeechBrain: BinarySphericalQuantizer
    "entropy_loss_weight": Word("entropy_weight"),
    # ESPnet: ResidualVectorQuantizer
    "dimension": Word("dim"),
    "bins": Word("codebook_size"),
    "n_q": Word("n_codebooks"),
    # Dimension of codebooks between learned projections, not after a fixed one.
    "codebook_dim": Word("code_dim", _learns),
}


def translate(
    quantizer: str, words: Mapping[str, Any], conf: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return the options for building a quantizer.

    Arguments
    ---------
    quantizer : str
        A registered name, or the full path of a class.
    words : Mapping
        Arguments of a toolkit, by the toolkit's names (see `WORDS`) or by names of
        options. Those that the quantizer does not have are omitted.
    conf : Mapping, optional
        Options given by the user; they override ``words``. Not changed.

    Returns
    -------
    dict

    Raises
    ------
    ConfigError
        If the name is unknown, ``conf`` is no mapping, or it sets a ``dim`` other
        than the width of the frames.

    Example
    -------
    >>> words = {"dimension": 8, "bins": 32, "n_q": 4, "decay": 0.9}
    >>> translate("vq", words, {"decay": 0.95})
    {'dim': 8, 'codebook_size': 32, 'decay': 0.95}
    """
    given = options_of("quantizer_conf", conf)
    cls = find_quantizer(quantizer)
    known = _COMMON | set(quantizer_options(quantizer, given))
    options = {}
    for name, value in words.items():
        word = WORDS.get(name, Word(name))
        if word.option in known and word.applies(cls):
            options[word.option] = value
    width = options["dim"]
    options |= given
    if options["dim"] != width:
        raise ConfigError(
            f"quantizer_conf sets dim to {options['dim']!r}, but the width of the "
            f"frames is {width!r}; remove dim"
        )
    return options
