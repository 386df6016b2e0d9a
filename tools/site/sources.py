"""Collect the pages of the site in a folder with the layout of the repository.

Links between pages, such as ``../deploy/README.md``, therefore lead to the
same place in the repository and in the site. Files that pages link to, such as
an example or a record of figures, are copied too.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from tools.site.commands_page import commands_page
from tools.site.http_page import http_page
from tools.site.navigation import GENERATED, TITLES, Part, navigation, written_pages
from tools.site.python_pages import extension_page, python_page
from tools.site.settings_page import settings_page

__all__ = ["collect", "linked_files"]

_LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)\s]*)?\)")

_START = """# Bathyscope

Live 3D tracking on an ordinary wide-field fluorescence microscope: one z-sweep of beads calibrates the optics, and from
then on every camera frame becomes 3D positions and tracks. [What it is, what was measured, and its limits](README.md).

![The live view: controls, camera picture, tracks in 3D, numbers](docs/pictures/page-live.png)
"""


def collect(root: Path, folder: Path) -> None:
    """Write all sources of the site into `folder`, which is made anew.

    Parameters
    ----------
    root : Path
        The repository.
    folder : Path
        Folder of the sources; its content is deleted first.
    """
    shutil.rmtree(folder, ignore_errors=True)
    pages = written_pages(root)
    for name in (*pages, *linked_files(root, pages)):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(root / name, folder / name)
    makers = (settings_page, commands_page, http_page, python_page, extension_page)
    (folder / "docs" / "reference").mkdir(parents=True)
    for name, make in zip(GENERATED, makers, strict=True):
        (folder / name).write_text(make(), encoding="utf-8")
    parts = navigation(pages)
    (folder / "index.md").write_text(_start(folder, parts, pages), encoding="utf-8")


def linked_files(root: Path, pages: list[str]) -> list[str]:
    """Files of the repository, other than pages, to which pages link, as paths from the root."""
    found = set()
    for page in pages:
        for target in _LINK.findall((root / page).read_text(encoding="utf-8")):
            if "://" not in target and not target.startswith("mailto:"):
                path = (root / page).parent.joinpath(target).resolve()
                if path.is_file() and path.is_relative_to(root):
                    found.add(path.relative_to(root).as_posix())
    return sorted(found - set(pages))


def _start(folder: Path, parts: tuple[Part, ...], pages: list[str]) -> str:
    """The first page: the four parts with their pages. Its tables of contents are the navigation."""
    text = _START
    for part in parts:
        text += f"\n## {part.title}\n\n{part.purpose}\n\n"
        text += "".join(f"- [{_title(folder, page)}]({page})\n" for page in part.pages)
        text += "\n" + _contents(folder, part.title, part.pages)
    named = {page for part in parts for page in part.pages}
    return text + "\n" + _contents(folder, "Earlier figures", [page for page in pages if page not in named])


def _contents(folder: Path, title: str, pages: Sequence[str]) -> str:
    """A table of contents of Sphinx, which is shown at the side only."""
    entries = "\n".join(f"{_title(folder, page)} <{page.rpartition('.')[0]}>" for page in pages)
    return f"```{{toctree}}\n:hidden:\n:caption: {title}\n\n{entries}\n```\n"


def _title(folder: Path, page: str) -> str:
    """The first heading of a page, up to its colon."""
    lines = (folder / page).read_text(encoding="utf-8").splitlines()
    heading = next((line[2:] for line in lines if line.startswith("# ")), lines[0])
    return TITLES.get(page) or heading.partition(": ")[0]
