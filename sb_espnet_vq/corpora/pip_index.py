"""Download a file of a package from the index that pip is configured for.

    python pip_index.py PACKAGE TARGET

It runs in a separate process, since pip's modules support one command per process.
pip's parser merges command line, environment and configuration files; pip's session
handles certificates, proxies, credentials, timeouts and trusted hosts.
"""

import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urljoin, urlsplit

_CHUNK = 2**20
_ATTEMPTS = 5


class _Links(HTMLParser):
    """Parser that collects the links of a page as absolute URLs."""

    def __init__(self, page: str, text: str):
        super().__init__()
        self._base = page
        self.targets: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list) -> None:
        """Record a link, or the base of relative links."""
        href = dict(attrs).get("href")
        if href and tag == "base":
            self._base = urljoin(self._base, href)
        elif href and tag == "a":
            self.targets.append(urldefrag(urljoin(self._base, href))[0])


def main(package: str, target: Path) -> None:
    """Download the file with the name of ``target`` from the first index that has it.

    Arguments
    ---------
    package : str
        Name of the package whose index page lists the file.
    target : Path
        Path to write it to; its name is that of the file on the index.
    """
    from pip._internal.commands import create_command

    command = create_command("download")
    options, _ = command.parse_args([])
    with command.main_context():
        session = command.get_default_session(options)  # type: ignore[attr-defined]
        errors = []
        for page in pages(options, package):
            try:
                _download(session, find(session, page, target.name), target)
                return
            except (OSError, LookupError) as error:
                errors.append(f"{redacted(page)}: {error}")
        sys.exit("\n".join(errors) or "pip is configured without any index")


def pages(options, package: str) -> list[str]:
    """Return the locations that pip searches, indexes first.

    Arguments
    ---------
    options : optparse.Values
        Options of pip.
    package : str
        Name of the package.

    Returns
    -------
    list[str]
        URLs of index pages and of local folders.

    Example
    -------
    >>> from types import SimpleNamespace as Options
    >>> options = Options(index_url="https://a.test/simple/", no_index=False)
    >>> options.extra_index_urls, options.find_links = [], ["https://b.test/files"]
    >>> pages(options, "Some_package")
    ['https://a.test/simple/some-package/', 'https://b.test/files']
    """
    name = re.sub(r"[-_.]+", "-", package).lower()
    indices = [] if options.no_index else [options.index_url, *options.extra_index_urls]
    local = [Path(each).expanduser() for each in options.find_links]
    return [f"{index.rstrip('/')}/{name}/" for index in indices if index] + [
        path.absolute().as_uri() if path.exists() else link
        for path, link in zip(local, options.find_links, strict=True)
    ]


def find(session, page: str, file: str) -> str:
    """Return the URL of a file listed by a page or a local folder.

    Arguments
    ---------
    session : requests.Session
        Session of pip.
    page : str
        URL of the page or folder.
    file : str
        Name of the file.

    Returns
    -------
    str

    Raises
    ------
    LookupError
        If the file is not listed.
    OSError
        If the page cannot be read.
    """
    parts = urlsplit(page)
    folder = Path(unquote(parts.path))
    if parts.scheme == "file" and folder.is_dir():
        if (folder / file).is_file():
            return (folder / file).as_uri()
        page = (folder / "index.html").as_uri()
    # An index may return JSON unless HTML is requested.
    response = session.get(page, headers={"Accept": "text/html"})
    response.raise_for_status()
    for link in _Links(response.url or page, response.text).targets:
        if unquote(urlsplit(link).path).rpartition("/")[2] == file:
            return link
    raise LookupError(f"no link to {file}")


def _download(session, url: str, target: Path) -> None:
    """Download the file; resume after a broken connection."""
    target.unlink(missing_ok=True)
    for attempt in range(_ATTEMPTS):
        try:
            _append(session, url, target)
            return
        except OSError:
            if attempt == _ATTEMPTS - 1:
                raise


def _append(session, url: str, target: Path) -> None:
    size = target.stat().st_size if target.exists() else 0
    # As pip does: a content encoding would change the bytes.
    headers = {"Accept-Encoding": "identity"}
    if size:
        headers["Range"] = f"bytes={size}-"
    response = session.get(url, headers=headers, stream=True)
    response.raise_for_status()
    resumed = response.status_code == 206
    size = size if resumed else 0
    total = size + int(response.headers.get("Content-Length", 0))
    shown = -1
    with target.open("ab" if resumed else "wb") as file:
        for chunk in response.iter_content(_CHUNK):
            size += file.write(chunk)
            if total and size * 10 // total != shown:
                shown = size * 10 // total
                print(f"{target.name}: {size} of {total} bytes", flush=True)
    if size < total:
        raise OSError(f"{redacted(url)}: the connection ended after {size} bytes")


def redacted(url: str) -> str:
    """Return the URL without user name and password.

    Arguments
    ---------
    url : str
        Any URL.

    Returns
    -------
    str

    Example
    -------
    >>> redacted("https://me:secret@a.test/simple/")
    'https://a.test/simple/'
    """
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
