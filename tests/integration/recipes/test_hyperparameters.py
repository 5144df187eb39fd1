"""Hyperparameters are validated before anything is written."""

import itertools
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sb_espnet_vq.errors import ConfigError

pytest.importorskip("speechbrain")

from ruamel.yaml import YAML

from sb_espnet_vq.training.declared import DECLARED
from sb_espnet_vq.training.kinds import Number, OrNull, Several, whole
from sb_espnet_vq.training.settings import leaves, load_hparams, split_arguments
from sb_espnet_vq.training.start import begin

ROOT = Path(__file__).parents[3]
FILES = sorted((ROOT / "hparams").glob("*/*.yaml"))
# Any number is valid for these.
ANY_NUMBER = {"max_grad_norm", "noise_mean"}
# Values that are invalid for every number.
WRONG_NUMBERS = (-7, 0, 2.5, 1e12)


CONFIGURATIONS = [*FILES, *sorted((ROOT / "recipes").glob("*/conf/*.yaml"))]


@pytest.mark.parametrize(
    "path", CONFIGURATIONS, ids=lambda p: f"{p.parent.name}-{p.stem}"
)
def test_it_opens_with_commands_and_what_to_expect(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    opening = list(itertools.takewhile(lambda line: line.startswith("#"), lines))
    commands = [line for line in opening if line.startswith("#   ")]
    started = [line for line in commands if f"/{path.name}" in line]
    assert len(started) >= 2, "a launch command, and one with another option"
    assert any(" --" in line for line in started)
    assert any(line.startswith("# Expected: ") for line in opening)


def keys_of(tree):
    """All keys of a YAML file, at any depth."""
    if not isinstance(tree, dict):
        return set()
    return set(tree).union(*map(keys_of, tree.values()))


@pytest.mark.parametrize("path", FILES, ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_no_keys_differ_by_case_alone(path):
    # SpeechBrain's own: the name of the model, and an argument of its wrapper.
    keys = keys_of(YAML().load(path.read_text(encoding="utf-8"))) - {"Transformer"}
    assert len(keys) == len({key.lower() for key in keys})


def test_the_yaml_of_a_run_is_read_as_it_was(tmp_path):
    """Where no file was read before: hyperpyyaml then reads tuples as texts."""
    (tmp_path / "run.yaml").write_text(
        "pair: &id001 (2.0, 0.5)\n"
        "conf: &id002 {}\n"
        "module: !new:collections.Counter\n"
        "  b: *id002\n"
        "  a: *id001\n"
    )
    code = (
        "from sb_espnet_vq.training.settings import load_hparams\n"
        "print(load_hparams('run.yaml', {})['module'])"
    )
    command = [sys.executable, "-c", code]
    run = {"cwd": tmp_path, "env": os.environ | {"PYTHONPATH": str(ROOT)}}
    out = subprocess.run(command, capture_output=True, text=True, check=True, **run)
    assert out.stdout == "Counter({'b': {}, 'a': (2.0, 0.5)})\n"


def values(path):
    return list(leaves(YAML().load(path.read_text(encoding="utf-8"))))


def numbers(value):
    """The numbers in a value; True and False are none."""
    if isinstance(value, list):
        return [x for each in value for x in numbers(each)]
    of_type = isinstance(value, int | float) and not isinstance(value, bool)
    return [value] if of_type else []


@pytest.mark.parametrize("path", FILES, ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_every_number_is_declared_and_a_wrong_one_refused(path):
    """Add a new key to training/declared.py."""
    for place, key, value in values(path):
        if not numbers(value):
            continue
        assert key in DECLARED, f"{path}: {place} has a number and is not declared"
        assert DECLARED[key].accepts(value), place
        if key.endswith("_folds"):
            # A fold may have any name.
            continue
        listed, kind = isinstance(value, list), DECLARED[key]
        wrong = ["abc", True, {"a": 1}, [[]], float("nan"), float("inf")]
        if not isinstance(kind, OrNull):
            wrong.append(None)
        for each in wrong:
            assert not kind.accepts(each), (place, each)
            assert not listed or not kind.accepts([each] * len(value)), (place, each)
        assert not kind.accepts(value[0] if listed else [value]), place
        if key not in ANY_NUMBER:
            tried = [[x] * len(value) if listed else x for x in WRONG_NUMBERS]
            assert not all(kind.accepts(x) for x in tried), place


@pytest.mark.parametrize("path", FILES, ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_a_wrong_type_of_each_key_is_named_with_the_key(path):
    """Also for texts, mappings and bools."""
    for place, key, _ in values(path):
        if key not in DECLARED:
            continue
        first, *inner = place.split(".")
        value = "[[]]"
        for name in reversed(inner):
            value = f"{{{name}: {value}}}"
        overrides = {first: YAML().load(value)}
        with pytest.raises(ConfigError) as caught:
            load_hparams(path, overrides)
        assert place in str(caught.value) and "\n" not in str(caught.value)


REFUSED = [
    ("--sample_rate -8000", "--sample_rate must be a whole number from 1000 to"),
    ("--seconds_per_batch 0", "--seconds_per_batch must be a number above 0, not 0"),
    ("--warmup_steps many", "--warmup_steps must be a whole number .* not 'many'"),
    ("--seed=-1", "--seed must be"),
    ("--max_grad_norm x", "--max_grad_norm must be a number, not 'x'"),
    ("--grad_accumulation_factor 0", "--grad_accumulation_factor must be"),
    ("--optimizer_step_limit 0", "--optimizer_step_limit must be"),
    ("--held_out [0.5,0.5]", "--held_out must be 2 numbers above 0 that add up"),
    ("--quantizer_conf 3", "--quantizer_conf must be a mapping"),
    ("--quantizer_conf {a:", "--quantizer_conf: not YAML"),
    ("--sede 3", "--sede: .* has no such key; did you mean --seed"),
    ("--devcie cpu", "--devcie: .* has no such key; did you mean --device"),
    ("--train_batches 3", "--train_batches must be a mapping"),
]


def refused():
    """Yield every configuration with each command line that concerns it."""
    for path in FILES:
        for words, named in REFUSED:
            # Configurations without a quantizer have no options of one.
            about_quantizer = words.startswith("--quantizer_conf")
            if about_quantizer and "quantizer_conf" not in path.read_text("utf-8"):
                continue
            name = f"{words}-{path.parent.name}-{path.stem}"
            yield pytest.param(path, words, named, id=name)


@pytest.mark.parametrize(("path", "words", "named"), list(refused()))
def test_nothing_is_written_before_it_is_refused(path, words, named, tmp_path):
    out = ["--output_folder", str(tmp_path / "out"), "--data_folder", str(tmp_path)]
    with pytest.raises(ConfigError, match=named) as caught:
        begin([str(path), *out, *words.split()], lambda hparams: None)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_the_last_of_an_option_given_twice_wins():
    words = ["--lr", "0.1", "--device=cpu", "--lr=1e-3", "--device", "cuda"]
    options, overrides = split_arguments(words, ["device"])
    assert overrides == {"lr": 0.001}
    assert options == ["--device", "cuda"]


def test_the_beginning_of_an_option_of_speechbrain_is_not_that_option(tmp_path):
    """`--optimizer` is a key of every recipe, `optimizer_step_limit` an option."""
    options, overrides = split_arguments(
        ["--optimizer", "{eps: 0.1}"], ["optimizer_step_limit"]
    )
    assert (options, overrides) == ([], {"optimizer": {"eps": 0.1}})


def test_texts_are_taken_as_they_are():
    words = ["--data_folder=a=b: #1", "--manifest", "2024", "--cache_folder", "null"]
    _, overrides = split_arguments(words, [])
    assert overrides["data_folder"] == "a=b: #1"
    assert overrides["manifest"] == "2024"
    assert overrides["cache_folder"] is None


def test_a_wrong_value_in_the_file_is_named_with_the_file(tmp_path):
    text = (ROOT / "hparams/BEST-RQ/fsdd.yaml").read_text(encoding="utf-8")
    mine = tmp_path / "mine.yaml"
    mine.write_text(text.replace("\nlr: 0.002", "\nlr: fast"), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"mine\.yaml: lr must be .* not 'fast'"):
        begin([str(mine), "--output_folder", str(tmp_path / "out")], lambda _: None)
    # An override fixes it.
    overrides = {"lr": 0.1, "checkpointer": None}
    assert load_hparams(mine, overrides)["lr"] == 0.1


def test_a_copied_recipe_may_have_keys_of_its_own(tmp_path):
    """Also nested in an object, under a name that is declared elsewhere."""
    mine = tmp_path / "mine.yaml"
    text = (ROOT / "hparams/BEST-RQ/fsdd.yaml").read_text(encoding="utf-8")
    more = "\nmargin: -0.5\nown:\n    lr: -3\n"
    mine.write_text(text + more, encoding="utf-8")
    hparams = load_hparams(mine, {"margin": -0.25, "checkpointer": None})
    assert (hparams["margin"], hparams["own"]) == (-0.25, {"lr": -3})


def test_the_hparams_file_stands_first(tmp_path):
    with pytest.raises(ConfigError, match=r"no\.yaml: no such hparams file"):
        begin([str(tmp_path / "no.yaml"), "--lr", "1"], lambda _: None)
    with pytest.raises(ConfigError, match="must come before all options, got --lr"):
        begin(["--lr", "1"], lambda _: None)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (Number(above=0, below=1), "a number above 0 and below 1"),
        (Number(least=0, below=1), "a number of at least 0 and below 1"),
        (whole(1, 6), "a whole number from 1 to 6"),
        (whole(), "a whole number"),
        (
            OrNull(Several(whole(1))),
            "a list of values, each a whole number of at least 1, or null",
        ),
    ],
    ids=str,
)
def test_kinds_say_what_they_are(kind, words):
    assert str(kind) == words


@pytest.mark.parametrize(
    ("file", "overrides", "key", "size"),
    [
        ("BEST-RQ/fsdd", {"n_mels": 40}, "p_input", 160),
        ("BEST-RQ/fsdd", {"pad_to_divisible_by": 8}, "p_input", 640),
        ("wav2vec2/fsdd", {"n_mels": 40}, "latent_dim", 80),
        (
            "wav2vec2/fsdd_waveform",
            {"extractor_channels": [8, 8, 8, 8, 8, 16]},
            "latent_dim",
            16,
        ),
    ],
)
def test_derived_sizes_follow_what_they_are_derived_from(
    file, overrides, key, size, tmp_path
):
    output = {"output_folder": str(tmp_path)}
    hparams = load_hparams(ROOT / "hparams" / f"{file}.yaml", overrides | output)
    assert hparams[key] == size
