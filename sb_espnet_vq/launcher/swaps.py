"""``--swap UPSTREAM.CLASS.PATH=NAME[,key=value...]``: another quantizer in a place.

The class of the toolkit is replaced in its module, right after that executed, by the
adapter of its role with the quantizer bound. Recipes need no edit.
"""

import copy
import functools
import inspect
import json
import re
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import Any

from sb_espnet_vq.errors import ConfigError
from sb_espnet_vq.utils.import_hooks import AfterImport

# Upstream's class, and the adapter that keeps its constructor and its interface.
ADAPTERS = {
    "speechbrain.nnet.quantisers.RandomProjectionQuantizer": (
        "sb_espnet_vq.lobes.quantizers:TargetQuantizer"
    ),
    "speechbrain.nnet.quantisers.GumbelVectorQuantizer": (
        "sb_espnet_vq.lobes.quantizers:ContrastiveQuantizer"
    ),
    "speechbrain.lobes.models.bsq.BinarySphericalQuantizer": (
        "sb_espnet_vq.lobes.quantizers:BottleneckQuantizer"
    ),
    "speechbrain.lobes.models.PIQ.VQEmbedding": (
        "sb_espnet_vq.lobes.quantizers:DictionaryQuantizer"
    ),
    "espnet2.gan_codec.shared.quantizer.residual_vq.ResidualVectorQuantizer": (
        "sb_espnet_vq.gan_codec.quantizers:CodecQuantizer"
    ),
}
# Each class's own quantizer: without options, this swap changes no model.
ORIGINALS = {
    "speechbrain.nnet.quantisers.RandomProjectionQuantizer": "random_projection",
    "speechbrain.nnet.quantisers.GumbelVectorQuantizer": "gumbel",
    "speechbrain.lobes.models.bsq.BinarySphericalQuantizer": "bsq",
    "speechbrain.lobes.models.PIQ.VQEmbedding": "class_partitioned",
    "espnet2.gan_codec.shared.quantizer.residual_vq.ResidualVectorQuantizer": "rvq",
}
FORM = "UPSTREAM.CLASS.PATH=NAME[,key=value...]"

# The classes swapped in that this process has built.
_built: set[str] = set()


@dataclass(frozen=True)
class Swap:
    """One ``--swap``, read.

    Arguments
    ---------
    text : str
        As it was given.
    path : str
        Upstream's class, a key of ``ADAPTERS``.
    quantizer : str
        The registered name of the quantizer.
    options : dict
        Its options, as ``quantizer_conf`` takes them.
    """

    text: str
    path: str
    quantizer: str
    options: dict[str, Any]

    @property
    def module(self) -> str:
        """The module that upstream's class lies in."""
        return self.path.rpartition(".")[0]

    @property
    def canonical(self) -> str:
        """The swap in canonical form: sorted options, normalized values.

        Example
        -------
        >>> place = "speechbrain.nnet.quantisers.RandomProjectionQuantizer"
        >>> read_swap(place + "=vq, kmeans_init=yes, decay=9e-1").canonical
        'speechbrain.nnet.quantisers.RandomProjectionQuantizer=vq,decay=0.9,kmeans_init=true'
        """
        pairs = [
            f"{key}={json.dumps(self.options[key])}" for key in sorted(self.options)
        ]
        return f"{self.path}={','.join([self.quantizer, *pairs])}"

    @property
    def is_original(self) -> bool:
        """Whether the swap is to the class's own quantizer without options."""
        return not self.options and self.quantizer == ORIGINALS.get(self.path)

    def was_built(self) -> bool:
        """Whether the program has built the class that was swapped in."""
        return self.path in _built

    def install(self, hook: AfterImport) -> None:
        """Replace the class once its module has executed."""
        hook.call(self.module, self._replace)

    def _replace(self, module: ModuleType) -> None:
        home, _, name = ADAPTERS[self.path].partition(":")
        adapter = getattr(import_module(home), name)
        bound: Any = _bind(adapter, self)
        # Recorded with a run by the toolkit's side; None: the model is unchanged.
        bound.swap = None if self.is_original else self.canonical
        # Pickles name upstream's path, where the process that reads them has it too.
        bound.__module__ = module.__name__
        bound.__name__ = bound.__qualname__ = self.path.rpartition(".")[2]
        setattr(module, bound.__name__, bound)


def _bind(adapter: type, swap: Swap) -> type:
    @functools.wraps(inspect.getattr_static(adapter, "__init__"))
    def init(self, *args, **kwargs):
        # A copy for each instance, so that none changes the options of the next.
        options = copy.deepcopy(swap.options)
        own = {"quantizer": swap.quantizer, "quantizer_conf": options}
        _built.add(swap.path)
        super(bound, self).__init__(*args, **{**own, **kwargs})

    bound: Any = type(adapter.__name__, (adapter,), {"__init__": init})
    return bound


def read_swaps(texts: list[str]) -> list[Swap]:
    """Read the arguments of ``--swap`` and look the quantizers up.

    Arguments
    ---------
    texts : list of str
        One for each ``--swap``.

    Returns
    -------
    list of Swap

    Raises
    ------
    ConfigError
        If one is malformed, names a class that cannot be swapped, an unknown
        quantizer or an option that it does not have, or if two name one class.
    """
    swaps: list[Swap] = []
    for text in texts:
        try:
            swap = read_swap(text)
            _check(swap)
        except ConfigError as error:
            raise ConfigError(f"--swap {text}: {error}") from None
        if swap.path in [earlier.path for earlier in swaps]:
            raise ConfigError(f"--swap {text}: {swap.path} is swapped twice")
        swaps.append(swap)
    return swaps


def read_swap(text: str) -> Swap:
    """Read one argument of ``--swap``; the quantizer is not looked up.

    Arguments
    ---------
    text : str
        ``UPSTREAM.CLASS.PATH=NAME[,key=value...]``; the values are YAML.

    Returns
    -------
    Swap

    Raises
    ------
    ConfigError
        If it is malformed or names a class that cannot be swapped.

    Example
    -------
    >>> place = "speechbrain.nnet.quantisers.GumbelVectorQuantizer"
    >>> read_swap(place + "=gumbel,temperature=[2,0.5,0.999]").options
    {'temperature': [2, 0.5, 0.999]}
    """
    path, equals, rest = text.partition("=")
    name, *pairs = _split(rest)
    if not (path and equals and name):
        raise ConfigError(f"expected {FORM}")
    if path not in ADAPTERS:
        known = ", ".join(ADAPTERS)
        raise ConfigError(f"{path} is no class that can be swapped; those are {known}")
    options: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not (key.isidentifier() and equals and value):
            raise ConfigError(f"{pair!r} is not key=value; expected {FORM}")
        if key in options:
            raise ConfigError(f"{key} is given twice")
        options[key] = _value(key, value)
    return Swap(text, path, name, options)


def _split(text: str) -> list[str]:
    """Split at the commas that stand outside brackets and quotes."""
    parts, depth, quote = [""], 0, ""
    for char in text:
        if quote or char in "'\"":
            quote = "" if char == quote else quote or char
        else:
            depth += (char in "[{") - (char in "]}")
        if char == "," and depth == 0 and not quote:
            parts.append("")
        else:
            parts[-1] += char
    return [part.strip() for part in parts]


def _value(key: str, text: str) -> Any:
    # Of hyperpyyaml's requirements, and only needed here.
    import yaml

    class Loader(yaml.SafeLoader):
        """YAML 1.1, in which 1e-3 would be a string, with that as a number."""

    exponent = re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$")
    Loader.add_implicit_resolver(
        "tag:yaml.org,2002:float", exponent, list("-+0123456789")
    )
    try:
        return yaml.load(text, Loader=Loader)
    except yaml.YAMLError:
        raise ConfigError(f"the value of {key} is no YAML: {text!r}") from None


def _check(swap: Swap) -> None:
    # Imports torch, which a launch without a swap does not need.
    from sb_espnet_vq.registry import quantizer_options

    known = quantizer_options(swap.quantizer)
    if any(option.kind is option.VAR_KEYWORD for option in known.values()):
        return
    for key in swap.options:
        if key not in known:
            raise ConfigError(
                f"{swap.quantizer!r} has no option {key!r}; its options are "
                f"{', '.join(known)}"
            )
