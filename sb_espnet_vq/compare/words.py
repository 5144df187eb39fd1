"""Names of metrics and costs in tables and plots, in their order."""

from __future__ import annotations

from typing import NamedTuple

from sb_espnet_vq.evaluation.metrics.table import TITLES

TOKEN_ERROR = "token_word_error"


class Word(NamedTuple):
    """short : of a column, with the unit; better : higher, lower, or "" if neither."""

    short: str
    better: str
    digits: int = 3


# Speeds of a codec depend on the machine, unlike its other results.
SPEEDS = {
    "encode_real_time_factor": Word("real-time factor of encoding", "lower"),
    "decode_real_time_factor": Word("real-time factor of decoding", "lower"),
    "real_time_factor": Word("real-time factor", "lower"),
}
_DIGITS = {"si_sdr": 2, "mel_distance": 2, "pesq": 2, "dnsmos": 2, "f0_error": 0}

METRICS = {
    "bitrate": Word("actual kbit/s", "", 2),
    **{
        name: Word(
            title.column,
            "higher" if title.higher_is_better else "lower",
            _DIGITS.get(name, 3),
        )
        for name, title in TITLES.items()
        if name not in SPEEDS
    },
    TOKEN_ERROR: Word("token WER (errors per word)", "lower"),
    "used_codes": Word("codes used", "", 0),
    "used_share": Word("share of codes used", ""),
    "perplexity": Word("perplexity", "", 0),
    "entropy_bitrate": Word("entropy (kbit/s)", "", 2),
}
COSTS = {
    "codec_seconds": Word("codec training (s)", "lower", 0),
    "codec_cpu_seconds": Word("codec training (CPU s)", "lower", 0),
    "codec_peak_mib": Word("codec memory (MiB)", "lower", 0),
    "parameters": Word("parameters", "", 0),
    **SPEEDS,
    "ctc_seconds": Word("recognizer training (s)", "lower", 0),
    "ctc_cpu_seconds": Word("recognizer training (CPU s)", "lower", 0),
    "ctc_peak_mib": Word("recognizer memory (MiB)", "lower", 0),
}


def word(name: str) -> Word:
    """Return what is shown of a metric or cost; its name if it is unknown."""
    return METRICS.get(name) or COSTS.get(name) or Word(name.replace("_", " "), "")
