"""MkDocs hook: pages from outside docs/, and links that also work on GitHub.

Pages link to files of the repository by relative paths, as GitHub resolves them. A link
to a file that is a page of the site becomes a link to that page. A link to any other
file of the repository becomes plain text.
"""

import os
import re
from pathlib import Path, PurePosixPath

from mkdocs.structure.files import File

ROOT = Path(__file__).parents[2]
OUTSIDE = [
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    *sorted(p.relative_to(ROOT).as_posix() for p in ROOT.glob("recipes/*/README.md")),
]
_CODE = re.compile(r"(^```.*?^```$)", re.M | re.S)
_LINK = re.compile(r"\[([^\]]*)\]\(([^)#\s]+)(#[^)\s]*)?\)")


def on_files(files, config):
    """Add the pages from outside docs/, at their paths in the repository."""
    for path in OUTSIDE:
        text = (ROOT / path).read_text(encoding="utf-8")
        files.append(File.generated(config, path, content=text))
    return files


def on_page_markdown(markdown, page, config, files):
    """Rewrite the links of a page, but not what looks like one in a code block."""
    source = page.file.src_uri
    parts = _CODE.split(markdown)
    parts[::2] = [_LINK.sub(lambda link: _link(link, source), p) for p in parts[::2]]
    return "".join(parts)


def _link(link: re.Match, source: str) -> str:
    text, target, anchor = link[1], link[2], link[3] or ""
    if "://" in target:
        return link[0]
    home = PurePosixPath(source if source in OUTSIDE else f"docs/{source}").parent
    path = os.path.normpath(home / target)
    page = _page(path)
    if page is None:
        # A broken link stays, so that the strict build reports it.
        return text if (ROOT / path).exists() else link[0]
    return f"[{text}]({os.path.relpath(page, PurePosixPath(source).parent)}{anchor})"


def _page(path: str) -> str | None:
    """Return the site's name of a file or folder of the repository, if it is there."""
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    if path == "README.md":
        return "index.md"
    return next((page for page in (path, f"{path}/README.md") if page in OUTSIDE), None)
