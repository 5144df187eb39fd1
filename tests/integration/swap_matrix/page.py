"""Generate docs/swap-matrix.md: `python tests/integration/swap_matrix/page.py`.

test_swap_matrix.py in this folder trains every cell and fails if the page differs from
the output of this script.
"""

from pathlib import Path

from sb_espnet_vq import list_quantizers

PAGE = Path(__file__).parents[3] / "docs" / "swap-matrix.md"

_CODECS = ("soundstream", "encodec", "dac")
_RECIPE = "quantizer: NAME  # in hparams/{0}/*.yaml; or --quantizer NAME"
_ESPNET = "codec: {0}\ncodec_conf: {{quantizer: NAME}}"
_FOCALCODEC = """quantizer: !new:sb_espnet_vq.lobes.quantizers.BottleneckQuantizer
    code_dim: 13
    quantizer: NAME"""

# The YAML that a user writes for each pipeline; NAME stands for the quantizer.
WRITTEN = {
    **{name: _RECIPE.format(name) for name in ("BEST-RQ", "wav2vec2", "codec", "PIQ")},
    "focalcodec": _FOCALCODEC,
    **{f"vq_{name}": _ESPNET.format(f"vq_{name}") for name in _CODECS},
}

# Pairs (pipeline, quantizer) that raise an error, and its message.
REFUSED: dict[tuple[str, str], str] = {}

INTRODUCTION = """# Every quantizer in every pipeline

`tests/integration/swap_matrix` trains each combination for a few steps and checks that
the loss of the task decreases, then saves a checkpoint, loads it into a new model and
checks that codes and values are the same. The models are the shipped recipes and
ESPnet's codecs at tiny sizes: "trains" means that the quantizer works in the pipeline,
not that it was trained at full size. Every quantizer can be built at the sizes of
SpeechBrain's own configurations, except that `bsq` and `lfq` need
`codebook_size: 256` or another power of two instead of 320 codes
([launcher.md](launcher.md)). For the quality of a quantizer, see the results of each
recipe.

`python tests/integration/swap_matrix/page.py` generates this page; a test fails if it
is out of date.
"""


def page(quantizers: list[str]) -> str:
    """Return the text of the page.

    Arguments
    ---------
    quantizers : list of str
        Their names, one for each row.

    Returns
    -------
    str
    """
    header = ["quantizer", *WRITTEN]
    lines = [_row(header), _row(["---"] * len(header))]
    for name in quantizers:
        lines.append(_row([f"`{name}`", *(_cell(each, name) for each in WRITTEN)]))
    parts = [INTRODUCTION, "\n".join(lines) + "\n", "## What to write\n"]
    parts.append(
        "Replace `NAME` by a name of the first column. Options of the quantizer go "
        "into\n`quantizer_conf` next to it.\n"
    )
    for title, yaml in WRITTEN.items():
        parts.append(f"**{title}**\n\n```yaml\n{yaml}\n```\n")
    return "\n".join(parts)


def _cell(pipeline: str, quantizer: str) -> str:
    reason = REFUSED.get((pipeline, quantizer))
    return f"refused: {reason}" if reason else "trains"


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    PAGE.write_text(page(list_quantizers()), encoding="utf-8")
