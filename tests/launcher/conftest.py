"""Dummy programs, toolkits and plugin packages for the tests of the launcher."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


class Bench:
    """A working directory, and a folder of packages at the start of the path."""

    def __init__(self, root: Path):
        self.here = root / "here"
        self.site = root / "site"
        self.environment: dict[str, str] = {}
        self.here.mkdir()
        self.site.mkdir()

    def write(self, path: str, text: str, where: str = "here") -> Path:
        """Write a file into one of the two folders."""
        file = getattr(self, where) / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    def package(self, name: str, entries: str, **modules: str) -> None:
        """Install a package: entry points and modules."""
        info = f"{name}-1.0.dist-info"
        self.write(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\n", "site")
        self.write(f"{info}/entry_points.txt", entries, "site")
        for module, text in modules.items():
            self.write(f"{module.replace('__', '/')}.py", text, "site")

    def python(self, *arguments: str) -> subprocess.CompletedProcess:
        """Run Python in the working directory."""
        path = os.pathsep.join([str(self.site), *_own_path()])
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=self.here,
            env={**os.environ, "PYTHONPATH": path, **self.environment},
            capture_output=True,
            text=True,
            # A pool restarts workers that fail to start, without end.
            timeout=120,
        )

    def launch(self, *arguments: str) -> subprocess.CompletedProcess:
        """Run the launcher in the working directory."""
        return self.python("-m", "sb_espnet_vq.run", *arguments)

    def output(self, *arguments: str) -> str:
        """Run the launcher, which must succeed, and return its output."""
        done = self.launch(*arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


def _own_path() -> list[str]:
    path = os.environ.get("PYTHONPATH")
    return [str(Path(__file__).parents[2]), *([path] if path else [])]


@pytest.fixture
def bench(tmp_path) -> Bench:
    """Return empty folders."""
    return Bench(tmp_path)


@pytest.fixture
def toolkits(bench) -> Bench:
    """Return folders with dummy toolkits, which import quickly."""
    files = {
        "speechbrain/__init__.py": "",
        "speechbrain/lobes/__init__.py": "",
        "speechbrain/lobes/features.py": "class Fbank: pass",
        "speechbrain/nnet/__init__.py": "",
        "speechbrain/nnet/quantisers.py": (
            "class RandomProjectionQuantizer: pass\nclass GumbelVectorQuantizer: pass"
        ),
        "espnet2/__init__.py": "",
        "espnet2/gan_codec/__init__.py": "",
        "espnet2/gan_codec/abs_gan_codec.py": "class AbsGANCodec: pass",
        "espnet2/gan_codec/dac/__init__.py": "",
        "espnet2/tasks/__init__.py": "",
        "espnet2/tasks/gan_codec.py": TASK,
    }
    for path, text in files.items():
        bench.write(path, text, "site")
    return bench


TASK = """
from espnet2.gan_codec.abs_gan_codec import AbsGANCodec
class DAC(AbsGANCodec): pass
class Choices: classes = {"dac": DAC}
codec_choices = Choices()
"""
