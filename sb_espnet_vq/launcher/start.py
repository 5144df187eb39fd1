"""Parsing the command line, installing plugins, starting the program."""

import atexit
import json
import os
import sys
from dataclasses import dataclass, field
from typing import Any

from sb_espnet_vq.errors import ConfigError
from sb_espnet_vq.launcher import brains, entry_points, program
from sb_espnet_vq.launcher.swaps import ADAPTERS, FORM, Swap, read_swap, read_swaps
from sb_espnet_vq.utils.import_hooks import AfterImport

# Passes the request to spawned processes, which see only the program's arguments.
VARIABLE = "SB_ESPNET_VQ_LAUNCH"
USAGE = f"python -m {program.LAUNCHER} [--swap SWAP] (-m MODULE | SCRIPT) ARGS..."
HELP = f"""\
usage: {USAGE}

Run a program as Python would, with the plugins of every installed package: the entry
points of the groups speechbrain.lobes and espnet2.gan_codec.

  -m MODULE     run a module, as python -m does
  SCRIPT        run a file; all arguments after MODULE or SCRIPT go to the program
  --swap SWAP   {FORM}: replace a toolkit's
                class with a registered quantizer; may be repeated
  -h, --help    show this text

classes that can be swapped:
  {(os.linesep + "  ").join(ADAPTERS)}

examples:
  python -m {program.LAUNCHER} -m espnet2.bin.gan_codec_train --config train.yaml
  python -m {program.LAUNCHER} \\
      --swap speechbrain.nnet.quantisers.RandomProjectionQuantizer=vq,decay=0.99 \\
      train.py hparams/BEST-RQ.yaml
"""


@dataclass
class Request:
    """A parsed command line.

    Arguments
    ---------
    target : str
        Name of a module or path of a script.
    is_module : bool
        Whether ``target`` is a module.
    rest : list of str
        Arguments of the program.
    swaps : list of Swap
        Classes to replace.
    """

    target: str
    is_module: bool
    rest: list[str]
    swaps: list[Swap] = field(default_factory=list)


def as_command(namespace: dict[str, Any]) -> None:
    """Execute the command line.

    Arguments
    ---------
    namespace : dict
        Namespace of the launcher's module, in which the program runs.

    Raises
    ------
    SystemExit
        With status 2 if the request is invalid, 1 if the module does not exist.
    """
    if sys.argv[1:2] and sys.argv[1] in ("-h", "--help"):
        print(HELP, end="")
        sys.exit(0)
    try:
        request = read_arguments(sys.argv[1:])
        os.environ[VARIABLE] = _pack(request)
        _install(request.swaps)
        _prepare_path(request)
        main = _find(request)
    except ConfigError as error:
        print(f"{program.LAUNCHER}: {error}", file=sys.stderr)
        sys.exit(1 if isinstance(error, program.NoSuchModule) else 2)
    atexit.register(_report_unused, request.swaps, request.target)
    sys.argv[:] = [
        main.file if request.is_module else request.target,
        *request.rest,
    ]
    main.run("__main__", namespace)


def as_worker(namespace: dict[str, Any]) -> None:
    """Prepare a spawned process: install plugins and import the program.

    As without the launcher, the file of the program is executed under the name
    ``__mp_main__``, so that its functions can be called.

    Arguments
    ---------
    namespace : dict
        Namespace of the launcher's module, in which the program runs.
    """
    request = _unpack(os.environ[VARIABLE])
    _install(request.swaps)
    main = _find(request)
    if main.name.endswith(".__main__"):
        # Python does not execute the main module of a package again.
        return
    sys.argv[0] = main.file
    main.run("__mp_main__", namespace)


def read_arguments(arguments: list[str]) -> Request:
    """Parse the command line.

    Arguments
    ---------
    arguments : list of str
        Arguments without the name of the launcher.

    Returns
    -------
    Request

    Raises
    ------
    ConfigError
        If an option is unknown, a swap is invalid or there is nothing to run.
    """
    rest = list(arguments)
    swaps: list[str] = []
    while rest and rest[0].startswith("-"):
        option, equals, value = rest.pop(0).partition("=")
        if option not in ("-m", "--swap") or (option == "-m" and equals):
            raise ConfigError(f"unknown option {option}; usage: {USAGE}")
        if not equals:
            if not rest:
                raise ConfigError(f"{option} needs a value; usage: {USAGE}")
            value = rest.pop(0)
        if option == "-m":
            return Request(value, True, rest, read_swaps(swaps))
        swaps.append(value)
    if not rest:
        raise ConfigError(f"nothing to run; usage: {USAGE}")
    return Request(rest[0], False, rest[1:], read_swaps(swaps))


def _install(swaps: list[Swap]) -> None:
    program.hide_launcher_in_tracebacks()
    hook = AfterImport()
    for swap in swaps:
        swap.install(hook)
    brains.install(hook, swaps)
    entry_points.install(hook)
    hook.install()


def _prepare_path(request: Request) -> None:
    """Set ``sys.path[0]`` as Python does for the program."""
    flags = sys.flags
    if not (request.is_module or flags.isolated or getattr(flags, "safe_path", False)):
        sys.path[0] = os.path.dirname(os.path.realpath(request.target))


def _find(request: Request) -> program.Program:
    find = program.find_module if request.is_module else program.find_script
    return find(request.target)


def _pack(request: Request) -> str:
    # Absolute, since the program may change its working directory.
    script = os.path.abspath(request.target)
    target = request.target if request.is_module else script
    return json.dumps([target, request.is_module, [s.text for s in request.swaps]])


def _unpack(text: str) -> Request:
    target, is_module, swaps = json.loads(text)
    return Request(target, is_module, [], [read_swap(text) for text in swaps])


def _report_unused(swaps: list[Swap], target: str) -> None:
    for swap in swaps:
        if swap.module not in sys.modules:
            print(
                f"{program.LAUNCHER}: --swap {swap.path}={swap.quantizer} had nothing "
                f"to replace in {target}: {swap.module} was never imported. This is "
                "expected in programs that build no model, such as data preparation",
                file=sys.stderr,
            )
