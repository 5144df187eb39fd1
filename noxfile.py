"""Quick tests with the versions of docs/versions.md: ``nox`` or ``nox -s core``.

Missing Python versions are skipped. Each environment with toolkits takes 5 GB.
"""

import nox

nox.options.error_on_missing_interpreters = False

QUICK = ("-m", "not slow and not network")
# Tests that need only torch: the core, its doctests and the contract checks.
CORE = (
    "sb_espnet_vq/errors.py",
    "sb_espnet_vq/registry.py",
    "sb_espnet_vq/ops",
    "sb_espnet_vq/quantizers",
    "sb_espnet_vq/combinators",
    "sb_espnet_vq/testing",
    "tests/ops",
    "tests/test_contract.py",
    "tests/test_exports.py",
    "tests/test_layers.py",
    "tests/quantizers",
    "tests/combinators",
    "tests/test_registry.py",
)
ONE_THREAD = {"OMP_NUM_THREADS": "1"}


@nox.session
@nox.parametrize(
    "python,torch", [("3.10", "2.9.0"), ("3.12", "2.11.0"), ("3.13", "2.14.1")]
)
def core(session: nox.Session, torch: str) -> None:
    """Test the core with torch versions for which there may be no torchaudio."""
    session.install(f"torch=={torch}", "-e", ".")
    session.install("pytest>=8", "hypothesis", "numpy", "soundfile")
    session.run("python", "-m", "pytest", "-q", *QUICK, *CORE, env=ONE_THREAD)


@nox.session
@nox.parametrize(
    "python,torch,espnet",
    [
        # The last ESPnet for Python 3.10 and 3.11.
        ("3.11", "2.12.1", "202511"),
        ("3.13", "2.14.1", "202611"),
    ],
)
def toolkits(session: nox.Session, torch: str, espnet: str) -> None:
    """Install the extra ``test`` with the given versions and run every quick test."""
    session.install("-e", ".[test]", f"torch=={torch}", f"espnet=={espnet}")
    session.run(
        "python", "-m", "pytest", "-q", *QUICK, *session.posargs, env=ONE_THREAD
    )
