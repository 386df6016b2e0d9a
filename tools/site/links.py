"""Check every link of the finished site.

Links within the site need a file and, after `#`, an element with that id.
Links to other sites are checked for their form only, so that the build needs no
network. Nothing that a page loads may come from elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

__all__ = ["Links", "check_links"]

_LOADED = {("img", "src"), ("script", "src"), ("link", "href"), ("iframe", "src"), ("source", "src")}
"""Element and attribute of what a browser loads by itself; links of the kind rel=canonical do not occur."""


@dataclass(frozen=True, slots=True)
class Links:
    """Result of a check.

    Attributes
    ----------
    pages, internal, external : int
        Numbers of pages and links.
    broken : tuple of str
        "PAGE: TARGET: REASON" of each link that leads nowhere.
    """

    pages: int
    internal: int
    external: int
    broken: tuple[str, ...]


@dataclass(slots=True)
class _Page:
    ids: set[str] = field(default_factory=set)
    links: list[tuple[str, bool]] = field(default_factory=list)
    """Target, and whether the browser loads it."""


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.page = _Page()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Collect ids and targets."""
        for name, value in attrs:
            if value is None:
                continue
            if name == "id" or (name == "name" and tag == "a"):
                self.page.ids.add(value)
            if name in ("href", "src"):
                self.page.links.append((value, (tag, name) in _LOADED))


def check_links(site: Path) -> Links:
    """Check all pages below the folder `site`."""
    pages = {path: _read(path) for path in sorted(site.rglob("*.html"))}
    internal = external = 0
    broken = []
    for path, page in pages.items():
        for target, loaded in page.links:
            if _is_external(target):
                external += 1
            else:
                internal += 1
            broken += [
                f"{path.relative_to(site)}: {target}: {why}" for why in _faults(site, path, target, loaded, pages)
            ]
    return Links(len(pages), internal, external, tuple(broken))


def _read(path: Path) -> _Page:
    reader = _Reader()
    reader.feed(path.read_text(encoding="utf-8"))
    return reader.page


def _is_external(target: str) -> bool:
    parts = urlsplit(target)
    return bool(parts.scheme or parts.netloc)


def _faults(site: Path, path: Path, target: str, loaded: bool, pages: dict[Path, _Page]) -> Iterator[str]:
    parts = urlsplit(target)
    if parts.scheme == "data":
        return
    if parts.scheme or parts.netloc:
        if loaded:
            yield "is loaded from another site; it has to be part of this one"
        elif parts.scheme not in ("http", "https", "mailto") or not (parts.netloc or parts.scheme == "mailto"):
            yield "is not an address"
        return
    file = (path.parent / unquote(parts.path)).resolve() if parts.path else path
    if file.is_dir():
        file /= "index.html"
    if not file.is_file():
        yield "there is no such file"
    elif not file.is_relative_to(site):
        yield "is outside of the site"
    elif parts.fragment and file in pages and unquote(parts.fragment) not in pages[file].ids:
        yield f"{file.name} has no such heading"
