"""YAML for each place where a quantizer can be used, for ``sbvq show NAME``."""

from textwrap import wrap
from typing import NamedTuple

from sb_espnet_vq.errors import ConfigError
from sb_espnet_vq.registry import build
from sb_espnet_vq.toolkit_words import translate


class Use(NamedTuple):
    """Where a quantizer can be used, and the YAML for it.

    Arguments
    ---------
    title : str
        What the quantizer is used for.
    yaml : str
        The configuration, with NAME for the quantizer's name.
    dim : int
        Dimension of the frames in this configuration.
    codebook_size : int
        Codes in each codebook in this configuration.
    note : str, optional
        Remark that applies to every quantizer in this place.
    """

    title: str
    yaml: str
    dim: int
    codebook_size: int
    note: str = ""


#: In the order in which they are printed. `quantizer_conf` takes a quantizer's options.
USES = {
    "target": Use(
        "labels for masked prediction (BEST-RQ, SpeechBrain)",
        """\
Quantizer: !new:sb_espnet_vq.lobes.quantizers.TargetQuantizer
    input_dim: 320
    cb_dim: 16
    cb_vocab: 8192
    quantizer: NAME
    quantizer_conf: {}  # options from above
""",
        dim=320,
        codebook_size=8192,
        note="Labels have no gradient: parameters of the quantizer keep their random "
        "initial values, moving averages are updated. The labels are the codes of the "
        "first codebook, or of the first n_codebooks.",
    ),
    "contrastive": Use(
        "targets of a contrastive loss (wav2vec 2.0, SpeechBrain)",
        """\
target_quantiser: !new:speechbrain.lobes.models.wav2vec.W2VTargetQuantiser
    in_dim: 512
    out_dim: 256
    num_vars: 256
    quantiser: !name:sb_espnet_vq.lobes.quantizers.ContrastiveQuantizer
        quantizer: NAME
        quantizer_conf: {}  # options from above
""",
        dim=512,
        codebook_size=256,
        note="SpeechBrain's recipe has num_vars: 320.",
    ),
    "bottleneck": Use(
        "bottleneck of a codec (FocalCodec, SpeechBrain)",
        """\
quantizer: !new:sb_espnet_vq.lobes.quantizers.BottleneckQuantizer
    code_dim: 13  # 2**13 codes
    quantizer: NAME
    quantizer_conf: {}  # options from above
""",
        dim=13,
        codebook_size=2**13,
    ),
    "dictionary": Use(
        "dictionary of an interpreter (PIQ, SpeechBrain)",
        """\
psi_model: !new:sb_espnet_vq.lobes.models.PIQ.VectorQuantizedPSI_Audio
    dim: 256
    K: 1024
    quantizer: NAME
    quantizer_conf: {}  # options from above
""",
        dim=256,
        codebook_size=1024,
        note="A quantizer's commitment_weight is 0 here unless quantizer_conf sets it, "
        "since PIQ's trainer adds that term.",
    ),
    "ESPnet": Use(
        "quantizer of a codec (also vq_encodec, vq_dac, vq_funcodec, vq_hificodec)",
        """\
codec: vq_soundstream
codec_conf:
    quantizer: NAME
    quantizer_conf: {}  # options from above
    generator_params:
        hidden_dim: 512
        quantizer_bins: 1024
        quantizer_n_q: 8
        quantizer_target_bandwidth: [0.5, 1, 2, 4]
""",
        dim=512,
        codebook_size=1024,
        note="Start ESPnet's programs with `python -m sb_espnet_vq.run`.",
    ),
}


def describe(name: str) -> list[str]:
    """Return lines with the YAML of each use of a registered quantizer.

    Arguments
    ---------
    name : str
        A name of ``list_quantizers()``.

    Returns
    -------
    list of str
        A block of YAML for each use, with comments. If the sizes of a use do not suit
        the quantizer, the block is its error message.

    Example
    -------
    >>> describe("bsq")[0]
    '# target: labels for masked prediction (BEST-RQ, SpeechBrain)'
    """
    return [line for use in USES for line in _use(use, name)]


def _use(use: str, name: str) -> list[str]:
    title, yaml, dim, codebook_size, note = USES[use]
    lines = [f"# {use}: {title}"]
    try:
        # One codebook is the least that each use asks for.
        sizes = {"dim": dim, "codebook_size": codebook_size, "n_codebooks": 1}
        build(name, **translate(name, sizes))
    except ConfigError as error:
        refusal = f"Not with {codebook_size} codes per codebook: {error}"
        return [*lines, *_comment(refusal), ""]
    lines += _comment(note)
    return [*lines, *yaml.replace("NAME", name).splitlines(), ""]


def _comment(text: str) -> list[str]:
    return wrap(text, width=79, initial_indent="# ", subsequent_indent="# ")
