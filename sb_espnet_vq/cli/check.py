"""``sbvq check NAME``: run the contract checks on a quantizer."""

import argparse
import os
import traceback
from unittest import SkipTest

from sb_espnet_vq.errors import ConfigError

HELP = "run the contract checks on a quantizer"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument("name", help="a quantizer (rvq), of this package or another")
    parser.add_argument(
        "--device",
        default="cpu",
        help="where the checks run, such as cuda (default: cpu); those of a rule for "
        "CPUs are skipped elsewhere",
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="leave out the checks that compile, export or start processes",
    )
    parser.add_argument(
        "--verbose",
        action="store_true",
        help="describe each check, and print the traceback of a failure",
    )


def main(args: argparse.Namespace) -> int:
    """Run all checks and print a line for each; return 1 if one failed."""
    from sb_espnet_vq import testing
    from sb_espnet_vq.registry import find_quantizer

    device = _device(args.device)
    # Before the checks, so that an unknown name or a broken package is reported once.
    find_quantizer(args.name)
    checks = [c for c in testing.list_checks() if not (args.quick and c.slow)]
    with device:
        results = [_run(check, args.name, args.verbose) for check in checks]
    failed = results.count("FAIL")
    excepted = results.count("known exception")
    skipped = results.count("skipped")
    print(
        f"{args.name}: {results.count('ok')} ok, {failed} failed, "
        f"{excepted} known exception{'s' * (excepted != 1)}"
        + f", {skipped} skipped"
        * (skipped > 0)
    )
    return 1 if failed else 0


def _device(name: str):
    """Return a device that is there, for operations that give the same every time."""
    import torch

    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (AssertionError, RuntimeError) as error:
        raise ConfigError(f"--device {name}: {str(error).splitlines()[0]}") from error
    if device.type != "cpu":
        # Sums of several threads of a GPU differ from run to run by rounding, and many
        # checks compare bit for bit.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
    return device


def _run(check, name: str, verbose: bool) -> str:
    from sb_espnet_vq import testing

    reason = testing.known_exception(name, check.name)
    if reason is not None:
        _report("known exception", check, reason, verbose)
        return "known exception"
    try:
        check(name)
    except SkipTest as reason_to_skip:
        _report("skipped", check, str(reason_to_skip), verbose)
        return "skipped"
    except Exception as error:
        first_line = (str(error) or type(error).__name__).splitlines()[0]
        _report("FAIL", check, first_line, verbose)
        if verbose:
            traceback.print_exc()
        return "FAIL"
    _report("ok", check, "", verbose)
    return "ok"


def _report(result: str, check, text: str, verbose: bool) -> None:
    print(f"{result:<15}  {check.name}{': ' if text else ''}{text}", flush=True)
    if verbose:
        print(f"{'':<15}    {check.doc}", flush=True)
