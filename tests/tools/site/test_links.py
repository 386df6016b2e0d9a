"""The check of links finds what leads nowhere, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.site.links import check_links

OTHER = '<h1 id="part">Part</h1><a name="old"></a>'


def _site(folder: Path, body: str) -> Path:
    (folder / "below").mkdir()
    (folder / "below" / "other.html").write_text(OTHER)
    (folder / "index.html").write_text(f'<p id="here"></p>{body}')
    return folder


@pytest.mark.parametrize(
    "body",
    [
        '<a href="below/other.html">page</a>',
        '<a href="below/other.html#part">heading</a>',
        '<a href="below/other.html#old">old anchor</a>',
        '<a href="#here">this page</a>',
        '<a href="https://example.org/a#b">other site</a>',
        '<a href="mailto:somebody@example.org">mail</a>',
        '<img src="data:image/png;base64,AA==">',
    ],
)
def test_valid_links_are_accepted(tmp_path: Path, body: str) -> None:
    assert check_links(_site(tmp_path, body)).broken == ()


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ('<a href="nowhere.html">page</a>', "index.html: nowhere.html: there is no such file"),
        ('<a href="below/other.html#gone">x</a>', "index.html: below/other.html#gone: other.html has no such heading"),
        ('<a href="#gone">x</a>', "index.html: #gone: index.html has no such heading"),
        ('<a href="../../../../../etc/hostname">x</a>', "is outside of the site"),
        ('<a href="https:///path">x</a>', "index.html: https:///path: is not an address"),
        ('<script src="https://cdn.example.org/a.js"></script>', "is loaded from another site"),
        ('<link href="//fonts.example.org/a.css">', "is loaded from another site"),
        ('<img src="missing.png">', "index.html: missing.png: there is no such file"),
    ],
)
def test_broken_links_are_named_with_the_reason(tmp_path: Path, body: str, why: str) -> None:
    (broken,) = check_links(_site(tmp_path, body)).broken
    assert why in broken


def test_links_are_counted(tmp_path: Path) -> None:
    found = check_links(_site(tmp_path, '<a href="#here">a</a><a href="http://example.org">b</a>'))
    assert (found.pages, found.internal, found.external) == (2, 1, 1)
