"""The generated reference has every setting, command, request and function."""

from __future__ import annotations

import re

import bathyscope
from service.api.description_file import api_description
from service.settings import Settings
from tests.conftest import ROOT
from tools.site.commands_page import commands, commands_page
from tools.site.http_page import http_page
from tools.site.navigation import GENERATED, navigation, written_pages
from tools.site.python_pages import python_page
from tools.site.settings_page import settings_page
from tools.site.value_types import is_group


def test_every_setting_has_a_row() -> None:
    page = settings_page()
    rows = set(re.findall(r"^\| `([\w.]+)` \|", page, re.MULTILINE))
    groups = {name for name, field in Settings.model_fields.items() if is_group(field.annotation)}
    assert set(Settings.model_fields) - rows == groups
    assert "| `engine.batch` | whole number, ≥ 1, ≤ 256 | `8` |" in page
    assert "| `port` | whole number, ≥ 0, ≤ 65,535 | `8000` |" in page
    assert "| `microscope.moves` | `objective`, `sample` | none |" in page
    assert "| `microscope.focus_drives.LABEL.low_um` | number | required |" in page
    assert "| `access_key` | text, kept secret | none |" in page


def test_every_command_has_a_section_with_its_options() -> None:
    page = commands_page()
    names = [words for words, _ in commands()]
    assert {"serve", "key add", "model export", "bench live"} <= set(names)
    assert re.findall(r"^## bathyscope (.*)$", page, re.MULTILINE) == names
    assert "bathyscope train [OPTIONS] CALIBRATION" in page
    assert "| `--repeats` | whole number, ≥ 1, ≤ 100 | `2` | Exposures at each plane, with --live. |" in page
    assert "| `--z-range-um` | 2 × number |" in page
    for words, command in commands():
        section = page[page.index(f"## bathyscope {words}\n") :].split("\n## ")[0]
        assert section.count("\n| ") == len(command.params) + bool(command.params)


def test_every_request_has_a_section_with_its_role() -> None:
    description = api_description()
    page = http_page(description)
    for path, operations in description["paths"].items():
        for method in operations:
            assert f"### {method.upper()} {path}\n" in page
    stop = page[page.index("### POST /api/v1/runs\n") :]
    assert "Role: operate." in stop[: stop.index("###", 3)]
    for name in description["components"]["schemas"]:
        assert f"\n### {name}\n" in page


def test_every_public_function_is_on_the_page_of_python() -> None:
    page = python_page()
    assert all(f":: bathyscope.{name}\n" in page for name in bathyscope.__all__)


def test_navigation_has_every_page_of_docs() -> None:
    pages = written_pages(ROOT)
    shown = [page for part in navigation(pages) for page in part.pages]
    assert len(shown) == len(set(shown))
    assert {page for page in pages if not page.startswith("docs/performance/")} == set(shown) - set(GENERATED)


def test_a_new_page_is_added_to_the_guides() -> None:
    guides = navigation(["docs/method.md", "docs/something-new.md"])[1]
    assert guides.pages == ("docs/something-new.md",)
