"""Files of tokens: exact, small, and refused if they are not what they claim."""

import struct
import zlib

import pytest
import torch

from sb_espnet_vq.errors import ConfigError, TokenFileError
from sb_espnet_vq.tokenizer import kaldi_files, npz_file, packed_file
from sb_espnet_vq.tokenizer.output_folder import open_folder
from sb_espnet_vq.tokenizer.tokens import Tokens, TokenSource, Utterance

SOURCE = TokenSource("codec", "ab" * 32, 8000, 80, (1024, 5, 1, 2**40))


def draw(source, frames=33):
    columns = [torch.randint(size, (frames,)) for size in source.codebook_sizes]
    return Tokens(torch.stack(columns, 1), max(0, frames * source.hop - 7), source)


def write_kaldi(ark, source, utterances):
    aside = ark.parent / "aside"
    open_folder(ark.parent, source, aside, format="kaldi")
    rows = [Utterance(key, ark, tokens) for key, tokens in utterances.items()]
    kaldi_files.write(ark, source, rows, aside)


@pytest.mark.parametrize("form", [npz_file, packed_file])
@pytest.mark.parametrize("frames", [0, 1, 33])
def test_what_is_read_is_what_was_written(form, frames, tmp_path):
    tokens = draw(SOURCE, frames)
    form.write(tmp_path / "a", tokens)
    read = form.read(tmp_path / "a")
    assert torch.equal(read.codes, tokens.codes) and read[1:] == tokens[1:]


def test_packed_codes_take_ceil_log2_bits_most_significant_first(tmp_path):
    source = SOURCE._replace(codebook_sizes=(1024, 5))
    tokens = Tokens(torch.tensor([[1, 4], [1023, 0]]), 160, source)
    packed_file.write(tmp_path / "a", tokens)
    data = (tmp_path / "a").read_bytes()
    bits = "00000000011001111111111000" + "0" * 6
    assert data[-8:-4] == int(bits, 2).to_bytes(4, "big")
    empty = tokens._replace(codes=torch.zeros(0, 2).long())
    packed_file.write(tmp_path / "b", empty)
    assert len(data) == (tmp_path / "b").stat().st_size + 4


@pytest.mark.parametrize("form", [npz_file, packed_file])
@pytest.mark.parametrize(
    "codes",
    [[[5, 5, 0, 0]], [[0, -1, 0, 0]], [[0, 0, 0]]],
    ids="large missing 3".split(),
)
def test_codes_that_do_not_fit_are_not_written(form, codes, tmp_path):
    with pytest.raises(TokenFileError, match="codes must be"):
        form.write(tmp_path / "a", Tokens(torch.tensor(codes), 80, SOURCE))
    assert not list(tmp_path.iterdir())


def test_every_truncation_and_every_altered_byte_is_found(tmp_path):
    file = tmp_path / "a"
    packed_file.write(file, draw(SOURCE, 4))
    data = file.read_bytes()
    for length in range(4, len(data)):
        file.write_bytes(data[:length])
        with pytest.raises(TokenFileError, match="truncated"):
            packed_file.read(file)
    for place in range(len(data)):
        file.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        with pytest.raises(TokenFileError):
            packed_file.read(file)


def test_foreign_and_newer_files_are_named(tmp_path):
    file = tmp_path / "a"
    file.write_bytes(b"RIFF1234")
    with pytest.raises(TokenFileError, match="not a packed file"):
        packed_file.read(file)
    packed_file.write(file, draw(SOURCE))
    data = bytearray(file.read_bytes()[:-4])
    data[4:6] = struct.pack("<H", 3)
    file.write_bytes(data + struct.pack("<I", zlib.crc32(data)))
    with pytest.raises(TokenFileError, match="version 3 .*install a newer"):
        packed_file.read(file)
    with pytest.raises(TokenFileError, match="no tokens"):
        npz_file.read(file)


def test_npz_unpickles_nothing(tmp_path):
    import numpy

    with (tmp_path / "a").open("wb") as file:
        codes = numpy.array([[0]], dtype=object)
        numpy.savez(file, codes=codes, samples=1, source="{}", allow_pickle=True)
    with pytest.raises(TokenFileError, match="no tokens"):
        npz_file.read(tmp_path / "a")


def test_kaldi_archives_are_those_of_kaldiio(tmp_path):
    kaldiio = pytest.importorskip("kaldiio")
    source = SOURCE._replace(codebook_sizes=(16, 16, 16))
    utterances = {"a": draw(source, 5), "b-b": draw(source, 0), "c": draw(source, 9)}
    ark = tmp_path / "ours.ark"
    write_kaldi(ark, source, utterances)
    theirs = f"ark,scp:{tmp_path}/theirs.ark,{tmp_path}/theirs.scp"
    with kaldiio.WriteHelper(theirs) as writer:
        for key, tokens in utterances.items():
            # As ESPnet's CodecTokenizer and dump_codec.py: frames, then codebooks.
            flat = (tokens.codes + 16 * torch.arange(3)).int().flatten()
            writer[key] = flat[: tokens.samples // source.hop * 3].numpy()
    assert ark.read_bytes() == (tmp_path / "theirs.ark").read_bytes()
    scp = ark.with_suffix(".scp").read_text()
    assert scp == (tmp_path / "theirs.scp").read_text().replace("theirs", "ours")
    read = dict(kaldi_files.read(ark.with_suffix(".scp"), ""))
    assert list(read) == list(utterances)
    # The last frame is not full.
    assert torch.equal(read["c"].codes, utterances["c"].codes[:8])


def test_kaldi_refuses_what_it_cannot_hold(tmp_path):
    with pytest.raises(ConfigError, match="codebooks of equal size"):
        kaldi_files.vocabulary(SOURCE)
    with pytest.raises(ConfigError, match="holds 2\\*\\*31 tokens"):
        kaldi_files.vocabulary(SOURCE._replace(codebook_sizes=(2**31, 2**31)))
    source = SOURCE._replace(codebook_sizes=(4,))
    ark = tmp_path / "a.ark"
    write_kaldi(ark, source, {"a": draw(source)})
    ark.write_bytes(ark.read_bytes()[:-1])
    with pytest.raises(TokenFileError, match="truncated"):
        dict(kaldi_files.read(ark.with_suffix(".scp"), ""))


def test_the_bytes_of_version_1_do_not_change(tmp_path):
    source = SOURCE._replace(codebook_sizes=(1024, 5))
    packed_file.write(tmp_path / "a", Tokens(torch.tensor([[1, 4]]), 79, source))
    header = (
        b'{"kind": "codec", "model": "' + b"ab" * 32 + b'", "sample_rate": 8000, '
        b'"hop": 80, "codebook_sizes": [1024, 5], "frames": 1, "samples": 79}'
    )
    data = b"SBVQ\1\0" + struct.pack("<I", len(header)) + header + b"\0\x60"
    expected = data + struct.pack("<I", zlib.crc32(data))
    assert (tmp_path / "a").read_bytes() == expected
