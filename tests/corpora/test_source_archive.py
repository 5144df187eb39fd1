"""Source archives from a local index: no build, no compiler, no setuptools."""

import hashlib
import http.server
import io
import tarfile
import threading

import pytest

from sb_espnet_vq.corpora.source_archive import SourceArchive
from sb_espnet_vq.errors import CorpusError

# Building the metadata of this package fails, as without a compiler.
SETUP = b"raise SystemExit('the archive was executed')\n"


def tar_of(name, content):
    bundle = io.BytesIO()
    with tarfile.open(fileobj=bundle, mode="w:gz") as tar:
        member = tarfile.TarInfo(name)
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))
    return bundle.getvalue()


CONTENT = tar_of("recordings-2.0/setup.py", SETUP)
ARCHIVE = SourceArchive("recordings", "2.0", hashlib.sha256(CONTENT).hexdigest())


@pytest.fixture
def pip(monkeypatch, tmp_path):
    """Configure pip by environment variables only."""

    def configure(**options):
        monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
        monkeypatch.setenv("PIP_RETRIES", "0")
        monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
        for name in ("PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL", "PIP_NO_INDEX"):
            monkeypatch.delenv(name, raising=False)
        for name, value in options.items():
            monkeypatch.setenv(f"PIP_{name.upper()}", str(value))

    return configure


@pytest.fixture
def links(tmp_path):
    folder = tmp_path / "links with a space"
    folder.mkdir()
    (folder / ARCHIVE.file).write_bytes(CONTENT)
    return folder.as_uri()


class Index(http.server.BaseHTTPRequestHandler):
    """A package index that closes connections after `limit` bytes of the file."""

    limit = len(CONTENT)
    ranges: list

    def do_GET(self):
        if self.path == "/simple/recordings/":
            page = (
                f'<a href="../../files/{ARCHIVE.file}#sha256={ARCHIVE.sha256}">it</a>'
            )
            self.answer(200, page.encode(), len(page), "text/html")
        elif self.path == f"/files/{ARCHIVE.file}":
            given = self.headers.get("Range", "bytes=0-")
            self.ranges.append(given)
            rest = CONTENT[int(given.removeprefix("bytes=").removesuffix("-")) :]
            status = 206 if "Range" in self.headers else 200
            self.answer(status, rest[: self.limit], len(rest), "application/gzip")
        else:
            self.send_error(404)

    def answer(self, status, content, length, kind):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


@pytest.fixture
def index():
    """Handler and URL of a running index."""
    handler = type("Handler", (Index,), {"ranges": []})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield handler, f"http://127.0.0.1:{server.server_port}/simple"
        server.shutdown()
        thread.join()


def without_pip_download(monkeypatch):
    monkeypatch.setattr(SourceArchive, "_pip_download", lambda *_: "pip: no")


def without_index(monkeypatch):
    monkeypatch.setattr(SourceArchive, "_index_download", lambda *_: "index: no")


METHODS = pytest.mark.parametrize("disable", [without_pip_download, without_index])


@METHODS
def test_from_an_index(disable, pip, index, tmp_path, monkeypatch):
    disable(monkeypatch)
    pip(index_url=index[1])
    assert ARCHIVE.download(tmp_path).read_bytes() == CONTENT


@METHODS
def test_from_a_folder_of_links(disable, pip, links, tmp_path, monkeypatch):
    disable(monkeypatch)
    pip(no_index=1, find_links=links)
    assert ARCHIVE.download(tmp_path).read_bytes() == CONTENT


def test_the_configuration_file_is_used(pip, index, tmp_path, monkeypatch):
    without_pip_download(monkeypatch)
    (tmp_path / "pip.conf").write_text(f"[global]\nindex-url = {index[1]}\n")
    pip(config_file=tmp_path / "pip.conf")
    monkeypatch.delenv("PIP_INDEX_URL", raising=False)
    assert ARCHIVE.download(tmp_path).read_bytes() == CONTENT


def test_the_index_is_the_fallback(pip, index, tmp_path):
    # `pip download` refuses this option for source archives; the index download works.
    pip(index_url=index[1], platform="any")
    assert ARCHIVE.download(tmp_path).read_bytes() == CONTENT


def test_a_broken_connection_is_resumed(pip, index, tmp_path, monkeypatch):
    without_pip_download(monkeypatch)
    handler, url = index
    handler.limit = len(CONTENT) // 2 + 1
    pip(index_url=url)
    assert ARCHIVE.download(tmp_path).read_bytes() == CONTENT
    assert handler.ranges == ["bytes=0-", f"bytes={handler.limit}-"]


def test_a_file_with_another_hash_is_refused(pip, links, tmp_path):
    pip(no_index=1, find_links=links)
    other = SourceArchive("recordings", "2.0", "0" * 64)
    with pytest.raises(CorpusError, match="SHA-256 is .*, expected 0000.* not used"):
        other.download(tmp_path)
    assert not (tmp_path / other.file).exists()


def test_the_errors_of_both_methods_are_reported(pip, tmp_path):
    (tmp_path / "empty").mkdir()
    pip(no_index=1, find_links=tmp_path / "empty")
    with pytest.raises(CorpusError, match="(?s)No matching distribution.*empty: "):
        ARCHIVE.download(tmp_path)
