"""Audio and files that VERSA evaluates.

VERSA (Shi et al. 2025, https://arxiv.org/abs/2412.17667) reads two lists of WAV files,
of reconstructions and of recordings with the same keys, and a YAML file of metrics.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from sb_espnet_vq.utils.files import atomic_file, write_text

# Names of VERSA for metrics of this package. Its F0 error is in Hz, and its speaker
# embeddings are others.
_ENTRIES: dict[str, dict[str, Any]] = {
    "si_sdr": {"name": "signal_metric"},
    "stoi": {"name": "stoi"},
    "pesq": {"name": "pesq"},
    "f0_error": {"name": "mcd_f0"},
    "speaker_similarity": {"name": "speaker", "model_tag": "default"},
    "dnsmos": {
        "name": "pseudo_mos",
        "predictor_types": ["dnsmos"],
        "predictor_args": {"dnsmos": {"fs": 16000}},
    },
}


def write_config(path: str | Path, names: Iterable[str]) -> None:
    """Write VERSA's configuration of some metrics, atomically.

    Arguments
    ---------
    path : str or Path
        A YAML file.
    names : iterable of str
        Metrics of this package; those that VERSA lacks are left out.
    """
    entries = [_ENTRIES[name] for name in names if name in _ENTRIES]
    # One JSON object a line is YAML, too.
    lines = [f"- {json.dumps(entry)}\n" for entry in entries]
    write_text(path, "".join(lines) or "[]\n")


def write_list(
    path: str | Path, signals: Mapping[str, Tensor], sample_rate: int
) -> None:
    """Write audio as 16-bit WAV files and a list of them (wav.scp), atomically.

    A line of the list is a key and an absolute path. The files are in a folder beside
    the list, with its name.

    Arguments
    ---------
    path : str or Path
        The list, such as `3.2kbps.scp`.
    signals : mapping of str to torch.Tensor
        (L,) float audio by key, as of `keys`. Louder audio than full scale is scaled.
    sample_rate : int
        In Hz.
    """
    path = Path(path).absolute()
    lines = []
    for key, signal in signals.items():
        file = path.with_suffix("") / f"{key}.wav"
        write_wav(file, signal, sample_rate)
        lines.append(f"{key} {file}\n")
    write_text(path, "".join(lines))


def write_wav(path: str | Path, signal: Tensor, sample_rate: int) -> None:
    """Write a 16-bit WAV file atomically.

    Arguments
    ---------
    path : str or Path
        The file.
    signal : torch.Tensor
        (L,) float on the CPU. Louder audio than full scale is scaled.
    sample_rate : int
        In Hz.
    """
    import soundfile

    peak = max(1.0, float(signal.abs().max()))
    with atomic_file(path) as partial:
        soundfile.write(partial, (signal / peak).numpy(), sample_rate)


def keys(names: Sequence[str]) -> list[str]:
    """Return distinct keys for utterances, which may stand in a list and name a file.

    Arguments
    ---------
    names : sequence of str
        Of the utterances.

    Returns
    -------
    list of str

    Example
    -------
    >>> keys(["a b", "c"])
    ['a_b', 'c']
    >>> keys(["a b", "a/b"])
    ['0_a_b', '1_a_b']
    """
    plain = [re.sub(r"[^\w.-]", "_", name) for name in names]
    if len(set(plain)) < len(plain):
        return [f"{number}_{name}" for number, name in enumerate(plain)]
    return plain
