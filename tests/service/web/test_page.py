"""The page is built once, from pinned packages, and loads nothing from elsewhere."""

from __future__ import annotations

import json
import re
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

import hatch_build
from hatch_build import HASH_FILE, PageError, inputs_hash, page_is_current, provide_page
from tests.conftest import ROOT, missing

WEB = ROOT / "service" / "web"


@pytest.fixture
def web(tmp_path: Path) -> Path:
    """A copy of the page's sources, without packages and without a finished page."""
    return Path(shutil.copytree(WEB, tmp_path / "web", ignore=shutil.ignore_patterns("node_modules", "dist")))


@pytest.fixture
def no_registry(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """An npm registry at which nobody listens, and an empty npm cache."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, never listening: connections are refused
        monkeypatch.setenv("npm_config_registry", f"http://127.0.0.1:{taken.getsockname()[1]}/")
        monkeypatch.setenv("npm_config_cache", str(tmp_path / "npm-cache"))
        yield


def _finish(web: Path) -> None:
    (web / "dist").mkdir()
    (web / "dist" / "index.html").write_text("<!doctype html>")
    (web / "dist" / HASH_FILE).write_text(inputs_hash(web) + "\n")


def test_current_page_is_not_built_again(web: Path, no_registry: None) -> None:
    _finish(web)
    said: list[str] = []
    provide_page(web, said.append, pytest.fail)
    assert said == ["Browser page is current."]


@pytest.mark.parametrize("changed", ["src/main.tsx", "index.html", "package-lock.json", "vite.config.ts"])
def test_change_of_an_input_makes_the_page_old(web: Path, changed: str) -> None:
    _finish(web)
    assert page_is_current(web)
    with (web / changed).open("a") as file:
        file.write("\n")
    assert not page_is_current(web)


def test_new_and_renamed_sources_make_the_page_old(web: Path) -> None:
    _finish(web)
    (web / "src" / "main.tsx").rename(web / "src" / "other.ts")
    assert not page_is_current(web)


def test_line_endings_do_not_matter(web: Path) -> None:
    _finish(web)
    source = web / "src" / "main.tsx"
    source.write_bytes(source.read_bytes().replace(b"\n", b"\r\n"))
    assert page_is_current(web)


def test_without_registry_the_install_goes_on_and_removes_the_old_page(
    web: Path, no_registry: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(hatch_build.REQUIRE_VARIABLE, raising=False)
    _finish(web)
    (web / "src" / "colour" / "depth.ts").unlink()
    warned: list[str] = []
    provide_page(web, pytest.fail, warned.append)
    assert len(warned) == 1
    assert "npm ci ended with status" in warned[0]
    assert "Install again" in warned[0]
    assert not (web / "dist").exists()


def test_without_registry_a_required_page_is_a_failure(
    web: Path, no_registry: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(hatch_build.REQUIRE_VARIABLE, "1")
    with pytest.raises(PageError, match="npm ci ended with status"):
        provide_page(web, pytest.fail, pytest.fail)


def test_lock_file_pins_contents_and_names_no_registry() -> None:
    text = (WEB / "package-lock.json").read_text(encoding="utf-8")
    packages = json.loads(text)["packages"]
    assert len(packages) > 10
    assert all("integrity" in package for name, package in packages.items() if name)
    assert '"resolved"' not in text


@pytest.fixture
def dist() -> Path:
    """The finished page of this checkout."""
    if not page_is_current(WEB):
        missing("the page is missing or old (pip install -e . builds it)")
    return WEB / "dist"


def test_finished_page_refers_to_its_own_files_only(dist: Path) -> None:
    html = (dist / "index.html").read_text(encoding="utf-8")
    referred = re.findall(r'(?:src|href)="([^"#]+)"', html)
    assert len(referred) >= 3
    assert all(reference.startswith("./") for reference in referred)
    files = [reference for reference in referred if reference != "./docs"]  # the service's own address
    assert all((dist / file).is_file() for file in files)
    style = "".join(file.read_text(encoding="utf-8") for file in (dist / "assets").glob("*.css"))
    assert re.search(r"url\(\s*['\"]?https?:", style) is None
    assert "@import" not in style


def test_finished_page_brings_what_the_documentation_needs(dist: Path) -> None:
    for name in ("swagger-ui-bundle.js", "swagger-ui.css"):
        assert (dist / "swagger" / name).stat().st_size > 10_000


def test_finished_page_carries_the_licences_of_what_it_bundles(dist: Path) -> None:
    text = (dist / "third-party-licences.txt").read_text(encoding="utf-8")
    bundled = json.loads((WEB / "package.json").read_text(encoding="utf-8"))["dependencies"]
    lock = json.loads((WEB / "package-lock.json").read_text(encoding="utf-8"))["packages"]
    for name in bundled:
        assert f"==== {name} {lock[f'node_modules/{name}']['version']} ====" in text


def test_finished_page_is_small_enough_for_a_slow_network(dist: Path) -> None:
    sent = [*(dist / "assets").glob("*.gz"), dist / "stop.js", dist / "index.html"]
    assert len(sent) >= 4
    assert sum(file.stat().st_size for file in sent) <= 250_000
