"""Download of a package's source archive, without building the package.

`pip download` always builds the metadata of a source archive. For that it installs and
runs the package's build requirements, which may need a compiler. A stub build backend
avoids this. If `pip download` fails, the index is searched with pip's own session
(`pip_index`). Both methods use the user's configuration of pip; neither runs code from
the archive.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sb_espnet_vq.errors import CorpusError

_STDERR = 2

# pip calls `setuptools.build_meta.__legacy__` if there is no pyproject.toml.
_BACKEND = """\
import os, sys

def prepare_metadata_for_build_wheel(metadata_directory, config_settings=None):
    folder = "{package}-{version}.dist-info"
    os.makedirs(os.path.join(metadata_directory, folder), exist_ok=True)
    path = os.path.join(metadata_directory, folder, "METADATA")
    with open(path, "w", encoding="utf-8") as file:
        file.write("Metadata-Version: 2.1\\nName: {package}\\nVersion: {version}\\n")
    return folder

__legacy__ = sys.modules[__name__]
"""


@dataclass(frozen=True)
class SourceArchive:
    """A released source archive that has a setup.py and no pyproject.toml.

    Arguments
    ---------
    package, version : str
        As in the file name of the archive.
    sha256 : str
        Hexadecimal digits.

    Example
    -------
    >>> SourceArchive("some_package", "1.0", "0" * 64).file
    'some_package-1.0.tar.gz'
    """

    package: str
    version: str
    sha256: str

    @property
    def file(self) -> str:
        """Name of the file."""
        return f"{self.package}-{self.version}.tar.gz"

    def download(self, folder: Path) -> Path:
        """Download the archive and verify its SHA-256.

        pip's progress bar goes to stderr.

        Arguments
        ---------
        folder : Path
            Folder for the archive and helper files.

        Returns
        -------
        Path
            The archive.

        Raises
        ------
        CorpusError
            If pip is missing, the download failed, or the SHA-256 differs.
        """
        errors = []
        for method in (self._pip_download, self._index_download):
            error = method(folder)
            if error is None:
                verify_sha256(folder / self.file, self.sha256)
                return folder / self.file
            errors.append(error)
            (folder / self.file).unlink(missing_ok=True)
        raise CorpusError(self._explain("\n".join(map(_tail, errors))))

    def _pip_download(self, folder: Path) -> str | None:
        """Return pip's error output, or None if it succeeded."""
        requirement = folder / "requirement.txt"
        pinned = f"{self.package}=={self.version} --hash=sha256:{self.sha256}\n"
        requirement.write_text(pinned, encoding="utf-8")
        backend = (folder / "backend").resolve()
        (backend / "setuptools").mkdir(parents=True, exist_ok=True)
        (backend / "setuptools" / "__init__.py").touch()
        text = _BACKEND.format(package=self.package, version=self.version)
        (backend / "setuptools" / "build_meta.py").write_text(text, encoding="utf-8")
        command = [sys.executable, "-m", "pip", "download", "--no-deps"]
        command += ["--no-binary", self.package, "--ignore-requires-python"]
        command += ["--no-build-isolation", "--use-pep517"]
        command += ["-r", str(requirement), "-d", str(folder)]
        path = os.environ.get("PYTHONPATH")
        joined = os.pathsep.join([str(backend), path] if path else [str(backend)])
        return _run(command, {"PYTHONPATH": joined})

    def _index_download(self, folder: Path) -> str | None:
        """Return the error output of `pip_index`, or None if it succeeded."""
        script = Path(__file__).with_name("pip_index.py")
        target = folder / self.file
        return _run([sys.executable, str(script), self.package, str(target)], {})

    def _explain(self, output: str) -> str:
        what = f"the source archive of {self.package} {self.version}"
        if "No module named pip" in output:
            cause = (
                f"{what} is fetched with pip, which {sys.executable} does not have; "
                f"`{sys.executable} -m ensurepip` installs it"
            )
        elif "DO NOT MATCH THE HASHES" in output:
            cause = f"{what} did not have the expected SHA-256 {self.sha256}"
        else:
            cause = (
                f"{what} could not be downloaded from the package index that pip is "
                "configured for. Check the network connection, then run the command "
                "again"
            )
        return f"{cause}\nThe last lines of pip's output:\n{output}"


def verify_sha256(path: Path, expected: str) -> None:
    """Check the SHA-256 of a file; delete the file if it differs.

    Arguments
    ---------
    path : Path
        The file.
    expected : str
        Its SHA-256 in hexadecimal digits.

    Raises
    ------
    CorpusError
        If the file is missing or its hash differs.
    """
    if not path.is_file():
        raise CorpusError(f"{path.name}: pip reported success, but the file is missing")
    actual = hashlib.sha256(path.read_bytes()).hexdigest()
    if actual != expected:
        path.unlink()
        raise CorpusError(
            f"{path.name}: its SHA-256 is {actual}, expected {expected}; it is not used"
        )


def _run(command: list[str], environment: Mapping[str, str]) -> str | None:
    # Not captured, since pip shows its progress bar only on a terminal.
    done = subprocess.run(
        command,
        env={**os.environ, **environment},
        stdout=_STDERR,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    return None if done.returncode == 0 else done.stderr


def _tail(output: str) -> str:
    return "\n".join(output.strip().splitlines()[-6:])
