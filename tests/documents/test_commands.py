"""Each command of the documents is one of the command line: its name, its options, and the form of their values.

Values are not looked up: a file that is named need not exist. CI runs the install and test commands of the README.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from typing import Any

import pytest
from typer.main import get_command

from service.commands.application import command_line
from tests.conftest import ROOT
from tools.site.navigation import written_pages

PAGES = [page for page in written_pages(ROOT) if not page.startswith(("docs/performance", "CHANGELOG"))]
OTHERS = {
    ".": "the shell",
    "curl": "run by tests/service/api/test_guide.py",
    "mypy": "run by CI before the tests",
    "pip": "downloads; CI installs with the command of the README",
    "pipx": "downloads; run by hand at a release (docs/release.md)",
    "pytest": "the tests themselves",
    "python": "scripts of the tutorial, a look at torch, and tools that take minutes",
    "python3": "makes an environment, as CI does",
    "ruff": "run by CI before the tests",
    "uv": "downloads; run by hand at a release (docs/release.md)",
    "uvx": "downloads; run by hand at a release (docs/release.md)",
}
"""First words of the lines that are not commands of Bathyscope, and why no test runs them."""


def _lines(page: str) -> Iterator[str]:
    """Commands of the shell blocks, and lines of indented blocks that begin with `bathyscope`."""
    text = (ROOT / page).read_text(encoding="utf-8")
    for block in re.findall(r"^```(?:sh|bash)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
        yield from block.replace("\\\n", " ").splitlines()
    yield from re.findall(r"^    (bathyscope .*)$", text, re.MULTILINE)


def _commands(page: str) -> list[str]:
    return [
        part.strip()
        for line in _lines(page)
        for part in re.split(r"&&|(?<!\$)\s#\s.*$", line)
        if part.strip() and not part.strip().startswith("#")
    ]


PARSED = sorted({(page, text) for page in PAGES for text in _commands(page) if text.startswith("bathyscope ")})


def _parse(words: list[str]) -> None:
    """Parse as the command line does, without running anything."""
    command: Any = get_command(command_line())
    context = command.make_context("bathyscope", list(words), resilient_parsing=False)
    while getattr(command, "commands", None) is not None:
        rest = [*context._protected_args, *context.args]
        name, command, arguments = command.resolve_command(context, rest)
        context = command.make_context(name, arguments, parent=context)


@pytest.mark.parametrize(("page", "text"), PARSED)
def test_commands_are_those_of_the_command_line(page: str, text: str) -> None:
    # Brackets mark what may be left out; three blanks separate a remark.
    text = text.split("   ")[0]
    _parse(shlex.split(re.sub(r"[\[\]](?!\w+\])", "", text), comments=True)[1:])


def test_a_wrong_option_is_noticed() -> None:
    with pytest.raises(Exception, match="--nonsense"):
        _parse(["train", "calibration", "--out", "model", "--nonsense"])


def test_every_other_line_has_a_reason() -> None:
    first = {text.split()[0] for page in PAGES for text in _commands(page)} - {"bathyscope"}
    assert first <= set(OTHERS), "say in OTHERS why no test runs this line"
