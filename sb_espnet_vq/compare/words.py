"""Names of metrics and costs in tables and plots."""

from __future__ import annotations

from typing import NamedTuple


class Word(NamedTuple):
    """short : of a column, with the unit; better : higher, lower, or "" if neither."""

    short: str
    better: str
    digits: int = 3


METRICS = {
    "bitrate": Word("kbit/s", "", 2),
    "entropy_bitrate": Word("entropy (kbit/s)", "", 2),
    "si_sdr": Word("SI-SDR (dB)", "higher", 2),
    "mel_distance": Word("mel distance (dB)", "lower", 2),
    "stft_distance": Word("STFT distance", "lower"),
    "stoi": Word("STOI", "higher"),
    "pesq": Word("PESQ", "higher", 2),
    "dnsmos": Word("DNSMOS", "higher", 2),
    "f0_error": Word("F0 error", "lower"),
    "voicing_error": Word("voicing error", "lower"),
    "speaker_similarity": Word("speaker similarity", "higher"),
    "dwer": Word("dWER", "lower"),
    "token_word_error": Word("token WER", "lower"),
    "used_codes": Word("codes used", "", 0),
    "used_share": Word("share of codes used", "", 3),
    "perplexity": Word("perplexity", "", 0),
}
COSTS = {
    "codec_seconds": Word("codec training (s)", "lower", 0),
    "codec_cpu_seconds": Word("codec training (CPU s)", "lower", 0),
    "ctc_cpu_seconds": Word("recognizer training (CPU s)", "lower", 0),
    "codec_peak_mib": Word("codec peak memory (MiB)", "lower", 0),
    "parameters": Word("parameters", "", 0),
    "encode_real_time_factor": Word("real-time factor of encoding", "lower"),
    "decode_real_time_factor": Word("real-time factor of decoding", "lower"),
    "real_time_factor": Word("real-time factor", "lower"),
    "ctc_seconds": Word("recognizer training (s)", "lower", 0),
    "ctc_peak_mib": Word("recognizer peak memory (MiB)", "lower", 0),
}


def word(name: str) -> Word:
    """Return what is shown of a metric or cost; its name if it is unknown."""
    return METRICS.get(name) or COSTS.get(name) or Word(name.replace("_", " "), "")
