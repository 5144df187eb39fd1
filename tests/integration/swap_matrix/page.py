"""Writes docs/swap-matrix.md: `python tests/integration/swap_matrix/page.py`.

test_swap_matrix.py beside this file trains every cell, and fails where the page is not
what this makes.
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

# Each pipeline, and what a user writes; NAME stands for the family.
WRITTEN = {
    **{name: _RECIPE.format(name) for name in ("BEST-RQ", "wav2vec2", "codec", "PIQ")},
    "focalcodec": _FOCALCODEC,
    **{f"vq_{name}": _ESPNET.format(f"vq_{name}") for name in _CODECS},
}

# A pipeline that refuses a family: the pair, and what its error says.
REFUSED: dict[tuple[str, str], str] = {}

INTRODUCTION = """# Any family in any pipeline

Every cell was trained for some steps by `tests/integration/swap_matrix`, in which the
loss of its task fell; its checkpoint was written, and read back into a fresh model that
then gave the same codes and values. The models are the shipped recipes and ESPnet's
codecs at tiny sizes: "trains" means that the quantizer works there, but not that it was
trained at full size. Every quantizer can be built at the sizes of SpeechBrain's own
configurations, except that `bsq` and `lfq` need `codebook_size: 256` or another power
of two instead of 320 codes ([launcher.md](launcher.md)). The results of each recipe
show how well a quantizer does.

This page is written by `python tests/integration/swap_matrix/page.py`, and a test fails
where it is not up to date.
"""


def page(families: list[str]) -> str:
    """Return the page's text.

    Arguments
    ---------
    families : list of str
        A row for each.

    Returns
    -------
    str
    """
    header = ["family", *WRITTEN]
    lines = [_row(header), _row(["---"] * len(header))]
    for family in families:
        lines.append(_row([f"`{family}`", *(_cell(each, family) for each in WRITTEN)]))
    parts = [INTRODUCTION, "\n".join(lines) + "\n", "## What to write\n"]
    parts.append(
        "In the place of `NAME`, any name of the first column; the family's own "
        "options\ngo into `quantizer_conf` beside it.\n"
    )
    for title, yaml in WRITTEN.items():
        parts.append(f"**{title}**\n\n```yaml\n{yaml}\n```\n")
    return "\n".join(parts)


def _cell(pipeline: str, family: str) -> str:
    reason = REFUSED.get((pipeline, family))
    return f"refused: {reason}" if reason else "trains"


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    PAGE.write_text(page(list_quantizers()), encoding="utf-8")
