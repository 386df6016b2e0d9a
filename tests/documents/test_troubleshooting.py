"""The messages that the page of troubleshooting quotes are those of the code."""

from __future__ import annotations

import ast
import re
from functools import cache

import pytest

from tests.conftest import ROOT

PAGE = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8").partition("\n## ")[2]
QUOTED = sorted(set(re.findall(r"(?<!\*)\*([^*\n]+)\*(?!\*)", PAGE)))


@cache
def _texts() -> str:
    """All constant texts of the code; the parts of an f-string are texts of their own."""
    found = []
    for folder in ("bathyscope", "hardware", "models", "service"):
        for file in (ROOT / folder).rglob("*.py"):
            tree = ast.parse(file.read_text(encoding="utf-8"))
            constants = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)]
            found += [value for value in constants if isinstance(value, str)]
    return "\n".join(found)


@pytest.mark.parametrize("quoted", QUOTED)
def test_message_is_in_the_code(quoted: str) -> None:
    assert quoted in _texts()
