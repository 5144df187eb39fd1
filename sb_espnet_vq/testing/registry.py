"""Registration of contract checks, and the exceptions that a quantizer declares."""

from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from types import ModuleType
from unittest import SkipTest

import torch

from sb_espnet_vq.errors import ConfigError
from sb_espnet_vq.registry import find_quantizer


@dataclass(frozen=True)
class Check:
    """A check of one rule of the contract, called with the name of a quantizer.

    Arguments
    ---------
    name : str
        Name of the check, as in ``contract_exceptions``.
    doc : str
        The rule in one line.
    run : callable
        Function of the quantizer's name and options.
    slow : bool
        Whether it starts processes or compiles, and takes seconds.
    needs : tuple of str
        Required packages.
    cpu_only : bool
        Whether the rule or the check is about tensors on a CPU.
    """

    name: str
    doc: str
    run: Callable
    slow: bool = False
    needs: tuple[str, ...] = ()
    cpu_only: bool = False

    def __call__(self, name: str, **options) -> None:
        """Run the check on a registered quantizer, on torch's default device.

        Arguments
        ---------
        name : str
            A name of ``list_quantizers()``.
        **options
            Options of the quantizer, in addition to or instead of the default ones.

        Raises
        ------
        AssertionError
            If the rule is violated; the message has the actual and the expected result.
        unittest.SkipTest
            If a required package is not installed, or the check needs a CPU. pytest
            reports a skipped test.
        """
        device = torch.get_default_device().type
        if self.cpu_only and device != "cpu":
            raise SkipTest(f"a check for CPUs, not for {device}")
        if missing := [package for package in self.needs if find_spec(package) is None]:
            raise SkipTest(f"{', '.join(missing)} not installed")
        devices = [torch.cuda.current_device()] if device == "cuda" else []
        with torch.random.fork_rng(devices=devices), _one_thread():
            try:
                self.run(name, options)
            except AssertionError as error:
                raise AssertionError(f"{name}: {error}") from error
            except Exception as error:
                raise AssertionError(
                    f"{name}: {self.name} raised {type(error).__name__}: {error}"
                ) from error

    def __str__(self) -> str:
        return self.name


@contextmanager
def _one_thread():
    # Threads do not speed up operations on small tensors, and slow them down on a busy
    # machine.
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def contract_check(
    function: Callable | None = None,
    *,
    slow: bool = False,
    needs: tuple[str, ...] = (),
    cpu_only: bool = False,
):
    """Turn a documented function of (name, options) into a `Check`."""
    if function is None:
        return lambda function: contract_check(
            function, slow=slow, needs=needs, cpu_only=cpu_only
        )
    doc = (function.__doc__ or "").strip().splitlines()[0]
    return Check(function.__name__, doc, function, slow, needs, cpu_only)


def all_checks(modules: tuple[ModuleType, ...]) -> list[Check]:
    """Return the checks defined in modules, quick ones first."""
    checks = [c for m in modules for c in vars(m).values() if isinstance(c, Check)]
    return sorted(checks, key=lambda check: check.slow)


def known_exception(name: str, check_name: str) -> str | None:
    """Return the reason why a quantizer is exempt from a check, None if it is not.

    Arguments
    ---------
    name : str
        A name of ``list_quantizers()``.
    check_name : str
        The name of a check.

    Returns
    -------
    str or None

    Raises
    ------
    ConfigError
        If an exception is declared without a reason.

    Example
    -------
    >>> known_exception("vq", "output_shapes") is None
    True
    """
    declared = getattr(find_quantizer(name), "contract_exceptions", {})
    if check_name not in declared:
        return None
    reason = declared[check_name]
    if not (isinstance(reason, str) and reason.strip()):
        raise ConfigError(
            f"{name!r} declares an exception to {check_name!r} without a written "
            f"reason: {reason!r}"
        )
    return reason
