"""Quantizers of other programs, imported and written back."""

import numpy
import pytest
import torch
from foreign_quantizers import FOREIGN, SIZE
from torch import nn

from sb_espnet_vq import build
from sb_espnet_vq.cli.main import main
from sb_espnet_vq.errors import CheckpointError, ConfigError
from sb_espnet_vq.tokenizer.imports import (
    import_quantizer,
    original_state,
    state_in_layout,
)
from sb_espnet_vq.tokenizer.layouts import LAYOUTS
from sb_espnet_vq.tokenizer.quantizer_folder import (
    load_imported,
    load_quantizer,
    save_new,
)

pytestmark = pytest.mark.filterwarnings("ignore:.*weight_norm")
load_file = pytest.importorskip("safetensors.torch").load_file


@pytest.fixture(params=FOREIGN)
def foreign(request):
    torch.manual_seed(0)
    return request.param, FOREIGN[request.param]()


def _layout(name):
    return next(
        each for each in sorted(LAYOUTS, key=len)[::-1] if name.startswith(each)
    )


def _assert_equal(got, expected):
    assert list(got) == list(expected) or set(got) == set(expected)
    for key, value in expected.items():
        assert got[key].dtype == value.dtype, key
        assert torch.equal(got[key], value), key


def test_codes_values_and_the_way_back(foreign, tmp_path):
    name, theirs = foreign
    # As in the checkpoint of a trainer: other networks, and an optimizer.
    prefix = {"speechbrain_piq": "psi.codebook.", "kmeans": ""}.get(name, "net.vq.")
    state = {prefix + k: v for k, v in theirs.module.state_dict().items()}
    others = {"net.encoder.weight": torch.zeros(2)} if prefix else {}
    adam = {"state": {0: {"step": torch.zeros(()), "exp_avg": torch.zeros(2)}}}
    saved = tmp_path / "model.pt"
    torch.save({"epoch": 3, "optimizer": adam, "model": state | others}, saved)
    options = [f"--{k}={v}" for k, v in theirs.given.items()]
    assert main(["import", str(saved), str(tmp_path / "ours"), *options]) == 0
    imported = load_imported(tmp_path / "ours")
    assert imported.origin.layout == _layout(name)
    q = imported.quantizer
    codes = q.encode(theirs.x, labels=theirs.labels)
    assert torch.equal(codes, theirs.codes)
    assert codes.unique().numel() > SIZE // 3
    if theirs.values is not None:
        torch.testing.assert_close(q.decode(codes), theirs.values, rtol=0, atol=1e-5)
    assert (
        main(
            [
                "export",
                str(tmp_path / "ours"),
                str(tmp_path / "back"),
                "--to",
                "original",
            ]
        )
        == 0
    )
    if name == "kmeans":
        back = numpy.load(tmp_path / "back" / "centres.npy")
        back = {"centres": torch.from_numpy(back)}
    else:
        back = load_file(tmp_path / "back" / "model.safetensors")
    _assert_equal(back, state)
    # To the layout by name, as for a quantizer of our own.
    again = state_in_layout(q, _layout(name))
    module = FOREIGN[name]().module
    module.load_state_dict(again)
    once_more = import_quantizer(module, _layout(name), "", **theirs.given).quantizer
    assert torch.equal(once_more.encode(theirs.x, labels=theirs.labels), codes)


def test_first_difference_is_named(foreign):
    name, theirs = foreign
    layout, state = _layout(name), dict(theirs.module.state_dict())
    for key in state:
        others = {k: v for k, v in state.items() if k != key}
        with pytest.raises(CheckpointError, match="missing"):
            import_quantizer(
                others or {"x": torch.zeros(1)}, layout, "", **theirs.given
            )
        grown = torch.nn.functional.pad(state[key].flatten(), (0, 1))
        with pytest.raises(CheckpointError, match="tensor '"):
            import_quantizer({**state, key: grown}, layout, "", **theirs.given)
    with pytest.raises(CheckpointError, match="unexpected tensor 'zzz'"):
        import_quantizer({**state, "zzz": torch.zeros(1)}, layout, "", **theirs.given)


def test_changed_codebooks_are_written():
    """Tensors that were kept in their first form are not written over a change."""
    for name in ("dac", "transformers_mimi", "kmeans", "encodec"):
        theirs = FOREIGN[name]()
        imported = import_quantizer(theirs.module, **theirs.given)
        q = imported.quantizer
        with torch.no_grad():
            for parameter in q.parameters():
                parameter.mul_(1.25)
        if name in ("kmeans", "encodec"):
            q.set_codebook_vectors(q.codebook_vectors() * 1.25)
        elif name == "transformers_mimi":
            for part in q.parts:
                part.set_codebook_vectors(part.codebook_vectors() * 1.25)
        theirs.module.load_state_dict(original_state(q, imported.origin))
        back = import_quantizer(theirs.module, **theirs.given).quantizer
        assert not torch.equal(q.decode(theirs.codes), theirs.values)
        # Every vector, also of codes that are not used.
        codes = torch.arange(SIZE)[None, :, None].expand(1, SIZE, q.n_codebooks)
        values = q.decode(codes)
        # Mimi's unused code has a large one.
        error = (back.decode(codes) - values).abs().max()
        assert error < 1e-6 * values.abs().max()


def test_beam_and_refit_of_an_imported_quantizer():
    from sb_espnet_vq.quantizers.refit import refit

    theirs = FOREIGN["encodec"]()
    imported = import_quantizer(theirs.module)
    q, x = imported.quantizer, theirs.x
    greedy = (q.decode(q.encode(x)) - x).square().sum()
    beam = (q.decode(q.encode(x, beam=8)) - x).square().sum()
    refit(q, [x[0], x[1]], beam=8)
    refitted = (q.decode(q.encode(x, beam=8)) - x).square().sum()
    assert refitted < beam < greedy
    theirs.module.load_state_dict(original_state(q, imported.origin))
    codes = q.encode(x)
    values = theirs.module.decode(codes.permute(2, 0, 1)).transpose(1, 2)
    torch.testing.assert_close(values, q.decode(codes))


def test_imported_quantizer_in_yaml(tmp_path):
    from hyperpyyaml import load_hyperpyyaml

    centres = torch.randn(SIZE, 8)
    numpy.save(tmp_path / "centres.npy", centres.numpy())
    main(["import", str(tmp_path / "centres.npy"), str(tmp_path / "q")])
    line = f"""
quantizer: !apply:sb_espnet_vq.tokenizer.load_quantizer
    folder: {tmp_path / "q"}
"""
    q = load_hyperpyyaml(line)["quantizer"]
    assert torch.equal(q.encode(centres[None])[0, :, 0], torch.arange(SIZE))


def test_quantizers_of_ours_in_other_layouts():
    dac = {"code_dim": 4, "codebook": "gradient", "metric": "cosine"}
    sizes = {"dim": 8, "codebook_size": 16, "n_codebooks": 2}
    torch.manual_seed(0)
    q = build("rvq", **sizes, **dac).eval()
    state = state_in_layout(q, "dac")
    back = import_quantizer(state).quantizer
    x = torch.randn(1, 50, 8)
    assert torch.equal(back.encode(x), q.encode(x))
    trained = build("rvq", **sizes)
    trained(torch.randn(4, 100, 8))
    assert set(state_in_layout(trained.eval(), "transformers_encodec"))
    split = build("split", dim=8, codebook_size=16, n_codebooks=3, code_dim=4)
    split(torch.randn(4, 100, 8))
    assert set(state_in_layout(split.eval(), "mimi"))


@pytest.mark.parametrize(
    ("options", "layout", "reason"),
    [
        ({"codebook": "gradient", "code_dim": 4}, "dac", "other codes or values"),
        ({"codebook": "gradient"}, "dac", "no layers.0.project_in.weight"),
        ({"metric": "cosine"}, "encodec", "other codes or values"),
        ({"code_dim": 4}, "transformers_encodec", "other codes or values"),
        ({"codebook": "simvq"}, "encodec", "no layers.0._codebook.inited"),
        ({}, "kmeans", "no _codebook.table"),
    ],
)
def test_what_a_layout_cannot_hold_is_refused(options, layout, reason):
    torch.manual_seed(0)
    q = build("rvq", dim=8, codebook_size=16, n_codebooks=2, **options).eval()
    with pytest.raises(ConfigError, match=reason):
        state_in_layout(q, layout)


class _Code:
    def __reduce__(self):
        return print, ("code of a stranger",)


def test_bad_files_are_refused(tmp_path, capsys):
    main_state = FOREIGN["encodec"]().module.state_dict()
    torch.save({"model": _Code()}, tmp_path / "code.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    torch.save({"a": torch.zeros(2)}, tmp_path / "other.pt")
    torch.save(
        {"a.P": torch.zeros(2, 2), "b.P": torch.zeros(2, 2)}, tmp_path / "two.pt"
    )
    (tmp_path / "text.safetensors").write_text("no tensors")
    from safetensors.torch import save_file

    save_file(dict(main_state), tmp_path / "cut.safetensors")
    whole = (tmp_path / "cut.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(whole[:-100])
    objects = numpy.array([_Code()], dtype=object)
    numpy.save(tmp_path / "code.npy", objects, allow_pickle=True)
    numpy.save(tmp_path / "whole.npy", numpy.arange(6).reshape(2, 3))
    capsys.readouterr()
    for name, reason in {
        "code.pt": "cannot be read",
        "list.pt": "not a state dict",
        "other.pt": "Known layouts: encodec: ",
        "two.pt": "several quantizers: speechbrain_best_rq at 'a.'",
        "text.safetensors": "cannot be read",
        "cut.safetensors": "cannot be read",
        "code.npy": "cannot be read",
        "whole.npy": "not centres",
        "nothing.pt": "no such file",
    }.items():
        assert main(["import", str(tmp_path / name), str(tmp_path / "out")]) == 2, name
        shown = capsys.readouterr()
        assert reason in shown.err and "stranger" not in shown.out, name
        assert not (tmp_path / "out").exists()


def test_options_that_tensors_do_not_show(capsys):
    theirs = FOREIGN["speechbrain_gumbel"]()
    q = import_quantizer(theirs.module, n_codebooks=2).quantizer
    written = state_in_layout(q, "speechbrain_gumbel")
    assert torch.equal(written["max_ent"], theirs.module.max_ent)
    with pytest.raises(ConfigError, match="do not show n_codebooks"):
        import_quantizer(theirs.module)
    with pytest.raises(CheckpointError, match="n_codebooks=5"):
        import_quantizer(theirs.module, n_codebooks=5)
    with pytest.raises(ConfigError, match="takes no option 'num_classes'"):
        import_quantizer(theirs.module, n_codebooks=2, num_classes=2)
    with pytest.raises(ConfigError, match="layout must be one of"):
        import_quantizer(theirs.module, layout="no")
    table = {"P": torch.randn(4, 2), "CB": torch.randn(8, 2)}
    with pytest.raises(CheckpointError, match="norm 1"):
        import_quantizer(table)


def test_damaged_folders_are_refused(tmp_path):
    import json

    torch.save(
        {"centres": torch.zeros(4, 2, dtype=torch.float64) + 0.1}, tmp_path / "c.pt"
    )
    main(["import", str(tmp_path / "c.pt"), str(tmp_path / "q")])
    file = tmp_path / "q" / "config.json"
    good = json.loads(file.read_text())
    options = good["options"]
    for change, error, reason in (
        ({"format": 2}, CheckpointError, "format 2"),
        ({"quantizer": "os.system"}, ConfigError, "no registered quantizer"),
        ({"options": {**options, "codebook": "a.b"}}, ConfigError, "plain word"),
        ({"options": {**options, "dim": 3}}, CheckpointError, "another model"),
        ({"origin": {}}, CheckpointError, "not that of an imported quantizer"),
    ):
        file.write_text(json.dumps({**good, **change}))
        with pytest.raises(error, match=reason):
            load_quantizer(tmp_path / "q")
    file.write_text(json.dumps(good))
    assert load_quantizer(tmp_path / "q").dim == 2
    (tmp_path / "q" / "original.safetensors").write_text("")
    with pytest.raises(CheckpointError, match="original.safetensors"):
        load_quantizer(tmp_path / "q")


def test_a_folder_that_was_not_imported(tmp_path, capsys):
    (tmp_path / "config.json").write_text("{}")
    out = tmp_path / "out"
    assert main(["export", str(tmp_path), str(out), "--to", "original"]) == 2
    assert "not the configuration of a tokenizer" in capsys.readouterr().err
    assert not out.exists()


def test_modules_are_copied():
    module = nn.Module()
    module.centres = nn.Parameter(torch.randn(4, 2))
    q = import_quantizer(module).quantizer
    before = q.codebook_vectors()
    with torch.no_grad():
        module.centres.zero_()
    assert torch.equal(q.codebook_vectors(), before)


@pytest.mark.parametrize("name", ["dac", "transformers_mimi", "encodec"])
def test_half_precision_is_computed_in_float32(name):
    theirs = FOREIGN[name]()
    state = {k: v.bfloat16() for k, v in theirs.module.state_dict().items()}
    imported = import_quantizer(state, **theirs.given)
    # The original class in float32, with the same rounded tensors.
    theirs.module.load_state_dict(state)
    expected = import_quantizer(theirs.module, **theirs.given).quantizer
    assert torch.equal(imported.quantizer.encode(theirs.x), expected.encode(theirs.x))
    _assert_equal(original_state(imported.quantizer, imported.origin), state)


def test_values_that_are_no_vectors_are_refused():
    centres = torch.randn(4, 2)
    for bad, reason in (
        (torch.where(centres > centres.median(), torch.nan, centres), "NaN"),
        (torch.zeros(4, 2, dtype=torch.int8), "must have floats, got torch.int8"),
    ):
        with pytest.raises(CheckpointError, match=reason):
            import_quantizer({"centres": bad})


def test_undecided_sources_say_what_there_is():
    state = {f"q.{k}": v for k, v in FOREIGN["encodec"]().module.state_dict().items()}
    with pytest.raises(CheckpointError, match="at the prefix 'q', but encodec at 'q.'"):
        import_quantizer(state, prefix="q")
    with pytest.raises(CheckpointError, match="several state dicts have encodec"):
        import_quantizer({"model": state, "ema": state})


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("gumbel", {"dim": 8, "n_codebooks": 3, "codebook_size": 4}),
        ("random_projection", {"dim": 8, "codebook_size": 16}),
        ("fsq", {"dim": 4, "levels": [3, 3, 3, 3]}),
    ],
)
def test_every_layout_holds_a_quantizer_or_refuses(name, options, layout):
    q = build(name, **options).double().eval()
    try:
        state = state_in_layout(q, layout)
    except ConfigError as error:
        assert f"cannot be written in the layout {layout}" in str(error)
    else:
        assert name in ("random_projection", "gumbel") and state


def test_quantizers_that_were_not_imported(tmp_path, capsys):
    q = build("vq", dim=2, codebook_size=4, codebook="frozen").eval()
    options = {"dim": 2, "codebook_size": 4, "codebook": "frozen"}
    save_new(tmp_path / "q", "vq", options, q)
    out = str(tmp_path / "out")
    assert main(["export", str(tmp_path / "q"), out, "--to", "original"]) == 2
    assert "was not imported" in capsys.readouterr().err
    assert main(["import", str(tmp_path / "q"), out]) == 2
    assert "needs no import" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert main(["export", str(tmp_path / "q"), out, "--to", "kmeans"]) == 0
    assert (tmp_path / "out" / "centres.npy").is_file()
