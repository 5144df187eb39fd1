"""The public workflow tests what the package supports, as noxfile.py does."""

import ast
import configparser
import re
from pathlib import Path

from yaml import safe_load

ROOT = Path(__file__).resolve().parents[1]
WORKFLOW = safe_load((ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))


def test_the_core_is_tested_on_every_supported_python():
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    supported = re.findall(r"Python :: (3\.\d+)", config["metadata"]["classifiers"])
    assert supported[0] in config["options"]["python_requires"]
    assert WORKFLOW["jobs"]["core"]["strategy"]["matrix"]["python"] == supported
    assert set(WORKFLOW["jobs"]["full"]["strategy"]["matrix"]["python"]) <= {*supported}


def test_the_core_is_that_of_the_noxfile():
    (core,) = (
        ast.literal_eval(node.value)
        for node in ast.parse((ROOT / "noxfile.py").read_text()).body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "CORE"
    )
    run = WORKFLOW["jobs"]["core"]["steps"][-1]["run"].split()
    assert tuple(run[-len(core) :]) == core
    assert all((ROOT / path).exists() for path in core)


def test_actions_have_a_pinned_major_version():
    steps = [step for job in WORKFLOW["jobs"].values() for step in job["steps"]]
    used = [step["uses"] for step in steps if "uses" in step]
    assert len(used) == 4
    assert all(re.fullmatch(r"actions/[\w-]+@v\d+", action) for action in used)
