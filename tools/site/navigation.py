"""The pages of the site in four parts: what a reader learns, does, understands, looks up."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

__all__ = ["GENERATED", "PARTS", "TITLES", "Part", "navigation", "written_pages"]

GENERATED = (
    "docs/reference/settings.md",
    "docs/reference/commands.md",
    "docs/reference/http.md",
    "docs/reference/python.rst",
    "docs/reference/extending.rst",
)
"""Pages that the build makes from the code."""


TITLES = {
    "README.md": "What it is, figures and limits",
    "docs/page.md": "The page in the browser",
    "docs/method.md": "The method",
    "docs/reference/python.rst": "Python",
    "docs/reference/extending.rst": "Python: extending it",
}
"""Titles of pages in the navigation that differ from their first heading."""


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the navigation.

    Attributes
    ----------
    title : str
    purpose : str
        One sentence, shown on the first page of the site.
    pages : tuple of str
        Paths from the root of the repository, in the order of reading.
    """

    title: str
    purpose: str
    pages: tuple[str, ...]


PARTS = (
    Part(
        "Tutorial",
        "Learn it step by step, without a microscope at hand.",
        ("docs/tutorial.md", "docs/page.md", "examples/README.md"),
    ),
    Part(
        "How-to guides",
        "Do one thing: install, connect, record, script, operate, repair.",
        (
            "docs/installation.md", "docs/windows.md", "docs/hardware.md", "docs/user-guide.md", "docs/cells.md",
            "docs/troubleshooting.md", "docs/client.md", "docs/api-guide.md", "docs/mcp.md", "docs/reprocessing.md",
            "docs/storage.md", "docs/operations.md", "docs/relay.md", "deploy/README.md", "CONTRIBUTING.md",
            "docs/release.md",
        ),
    ),
    Part(
        "Explanation",
        "Understand the method, its limits, the latency and the ledger of frames.",
        (
            "README.md", "docs/method.md", "docs/calibration.md", "docs/cascade.md", "docs/refinement.md",
            "docs/tracks.md", "docs/static-light.md", "docs/published-networks.md", "docs/architecture.md",
            "docs/faults.md", "docs/attacks.md", "docs/scaling.md", "docs/performance.md",
        ),
    ),
    Part(
        "Reference",
        "Look something up: settings, commands, addresses, functions, words.",
        (*GENERATED, "docs/vocabulary.md", "CHANGELOG.md"),
    ),
)  # fmt: skip

_WRITTEN = ("*.md", "docs/**/*.md", "deploy/README.md", "examples/README.md")

_MORE = "How-to guides"
"""Pages of docs/ that no part names are added to this part."""


def written_pages(root: Path) -> list[str]:
    """All pages of the repository that belong to the site, as paths from its root."""
    found = {path for pattern in _WRITTEN for path in root.glob(pattern)}
    return sorted(path.relative_to(root).as_posix() for path in found)


def navigation(pages: Iterable[str]) -> tuple[Part, ...]:
    """Return the parts with the written pages among `pages`, and with the generated ones.

    Pages of docs/ itself that no part names are added to the how-to guides; pages in folders below it, such as the
    history of the performance record, are reached by links only.
    """
    there = {*pages, *GENERATED}
    named = {page for part in PARTS for page in part.pages}
    further = tuple(sorted(page for page in there - named if PurePosixPath(page).parent == PurePosixPath("docs")))
    return tuple(
        Part(
            part.title,
            part.purpose,
            tuple(page for page in part.pages if page in there) + (further if part.title == _MORE else ()),
        )
        for part in PARTS
    )
