"""Scripts in a process in which sb_espnet_vq cannot be imported."""

import re
import subprocess
import sys
from pathlib import Path

_PAGE = Path(__file__).parents[1] / "docs" / "tokenizer.md"

_REFUSE = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "sb_espnet_vq":
            raise ModuleNotFoundError(f"{name} is refused", name=name)

sys.meta_path.insert(0, Refuse())
"""


def run_without_package(script, folder):
    """Run a script in a folder; return what it prints, and what it logs."""
    refuse = Path(folder, "refuse.py")
    refuse.write_text(_REFUSE + "\n" + script)
    done = subprocess.run(
        [sys.executable, "-I", str(refuse)], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout, done.stderr


def script_of_page(word):
    """Return the script of docs/tokenizer.md for other programs that has a word."""
    _, _, section = _PAGE.read_text().partition("## In other programs")
    scripts = re.findall(r"^```python\n(.*?)^```", section, re.M | re.S)
    (found,) = (script for script in scripts if word in script)
    return found
