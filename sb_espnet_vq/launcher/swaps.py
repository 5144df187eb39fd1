"""``--swap UPSTREAM.CLASS.PATH=NAME[,key=value...]``: replace a quantizer class.

Right after the import of its module, the toolkit's class is replaced with the adapter
of the same interface, bound to the given quantizer. Recipes need not be edited.
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

# Class of the toolkit, and the adapter with its constructor and interface.
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
# Quantizer that each class implements: swapping it in without options changes no model.
ORIGINALS = {
    "speechbrain.nnet.quantisers.RandomProjectionQuantizer": "random_projection",
    "speechbrain.nnet.quantisers.GumbelVectorQuantizer": "gumbel",
    "speechbrain.lobes.models.bsq.BinarySphericalQuantizer": "bsq",
    "speechbrain.lobes.models.PIQ.VQEmbedding": "class_partitioned",
    "espnet2.gan_codec.shared.quantizer.residual_vq.ResidualVectorQuantizer": "rvq",
}
FORM = "UPSTREAM.CLASS.PATH=NAME[,key=value...]"

# Paths of the swapped classes that this process has instantiated.
_built: set[str] = set()


@dataclass(frozen=True)
class Swap:
    """A parsed ``--swap``.

    Arguments
    ---------
    text : str
        The argument on the command line.
    path : str
        Class of the toolkit, a key of ``ADAPTERS``.
    quantizer : str
        Registered name of the quantizer.
    options : dict
        Options of the quantizer, as in ``quantizer_conf``.
    """

    text: str
    path: str
    quantizer: str
    options: dict[str, Any]

    @property
    def module(self) -> str:
        """Module of the toolkit's class."""
        return self.path.rpartition(".")[0]

    @property
    def canonical(self) -> str:
        """The swap in canonical form: sorted options, normalized values.

        Example
        -------
        >>> path = "speechbrain.nnet.quantisers.RandomProjectionQuantizer"
        >>> read_swap(path + "=vq, kmeans_init=yes, decay=9e-1").canonical
        'speechbrain.nnet.quantisers.RandomProjectionQuantizer=vq,decay=0.9,kmeans_init=true'
        """
        pairs = [
            f"{key}={json.dumps(self.options[key])}" for key in sorted(self.options)
        ]
        return f"{self.path}={','.join([self.quantizer, *pairs])}"

    @property
    def is_original(self) -> bool:
        """Whether it swaps in the quantizer of the class itself, without options."""
        return not self.options and self.quantizer == ORIGINALS.get(self.path)

    def was_built(self) -> bool:
        """Whether the program has instantiated the class."""
        return self.path in _built

    def install(self, hook: AfterImport) -> None:
        """Replace the class after its module has been executed."""
        hook.call(self.module, self._replace)

    def _replace(self, module: ModuleType) -> None:
        home, _, name = ADAPTERS[self.path].partition(":")
        adapter = getattr(import_module(home), name)
        bound: Any = _bind(adapter, self)
        # Recorded in a run by our side of the toolkit; None if the model is unchanged.
        bound.swap = None if self.is_original else self.canonical
        # Pickles refer to the toolkit's path, which exists in every process.
        bound.__module__ = module.__name__
        bound.__name__ = bound.__qualname__ = self.path.rpartition(".")[2]
        setattr(module, bound.__name__, bound)


def _bind(adapter: type, swap: Swap) -> type:
    @functools.wraps(inspect.getattr_static(adapter, "__init__"))
    def init(self, *args, **kwargs):
        # A copy, so that no instance modifies the options of the next.
        options = copy.deepcopy(swap.options)
        own = {"quantizer": swap.quantizer, "quantizer_conf": options}
        _built.add(swap.path)
        super(bound, self).__init__(*args, **{**own, **kwargs})

    bound: Any = type(adapter.__name__, (adapter,), {"__init__": init})
    return bound


def read_swaps(texts: list[str]) -> list[Swap]:
    """Parse the arguments of ``--swap`` and look the quantizers up.

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
        If a swap is malformed, has a class that cannot be swapped, an unknown quantizer
        or an unknown option, or if a class is swapped twice.
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
    """Parse one argument of ``--swap``; the quantizer is not looked up.

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
        If it is malformed or has a class that cannot be swapped.

    Example
    -------
    >>> path = "speechbrain.nnet.quantisers.GumbelVectorQuantizer"
    >>> read_swap(path + "=gumbel,temperature=[2,0.5,0.999]").options
    {'temperature': [2, 0.5, 0.999]}
    """
    path, equals, rest = text.partition("=")
    name, *pairs = _split(rest)
    if not (path and equals and name):
        raise ConfigError(f"expected {FORM}")
    if path not in ADAPTERS:
        known = ", ".join(ADAPTERS)
        raise ConfigError(f"{path} cannot be swapped; classes that can are {known}")
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
    """Split at commas outside brackets and quotes."""
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
    # A requirement of hyperpyyaml, only needed here.
    import yaml

    class Loader(yaml.SafeLoader):
        """YAML 1.1 with numbers such as 1e-3, which it would read as strings."""

    exponent = re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$")
    Loader.add_implicit_resolver(
        "tag:yaml.org,2002:float", exponent, list("-+0123456789")
    )
    try:
        return yaml.load(text, Loader=Loader)
    except yaml.YAMLError:
        raise ConfigError(f"the value of {key} is not valid YAML: {text!r}") from None


def _check(swap: Swap) -> None:
    # Imports torch, which is not needed without a swap.
    from sb_espnet_vq.registry import quantizer_options

    known = quantizer_options(swap.quantizer, swap.options)
    if any(option.kind is option.VAR_KEYWORD for option in known.values()):
        return
    for key in swap.options:
        if key not in known:
            raise ConfigError(
                f"{swap.quantizer!r} has no option {key!r}; its options are "
                f"{', '.join(known)}"
            )
