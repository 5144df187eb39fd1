"""Download and preparation of audio corpora: files, manifests and splits.

Imports no toolkit; soundfile, torchaudio and numpy are imported where they are used.
"""

from sb_espnet_vq.corpora.audio import inspect_audio, read_audio
from sb_espnet_vq.corpora.fsdd import fetch_fsdd
from sb_espnet_vq.corpora.manifest import (
    Utterance,
    audio_path,
    copy_manifest,
    read_manifest,
    read_rows,
    scan_folder,
    write_manifest,
)
from sb_espnet_vq.corpora.splits import (
    corpus_root,
    prepare_corpus,
    split_folds,
    split_utterances,
)

__all__ = [
    "Utterance",
    "audio_path",
    "copy_manifest",
    "corpus_root",
    "fetch_fsdd",
    "inspect_audio",
    "prepare_corpus",
    "read_audio",
    "read_manifest",
    "read_rows",
    "scan_folder",
    "split_folds",
    "split_utterances",
    "write_manifest",
]
