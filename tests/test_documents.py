"""The commands, links and settings in the documents are valid."""

from __future__ import annotations

import re
import tomllib
from dataclasses import fields
from pathlib import Path

import pytest
from typer.main import get_command

from models.tracking.settings import TrackerSettings
from service.commands.application import command_line
from service.settings import load_settings

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = (
    "README.md",
    "docs/user-guide.md",
    "docs/operations.md",
    "docs/method.md",
    "docs/static-light.md",
    "docs/tracks.md",
    "docs/reprocessing.md",
    "docs/relay.md",
    "docs/storage.md",
    "docs/cells.md",
    "docs/scaling.md",
    "docs/windows.md",
    "deploy/README.md",
)


def _blocks(document: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", (ROOT / document).read_text(), re.DOTALL | re.MULTILINE)


def test_readme_begins_with_the_demo_and_the_tests() -> None:
    demo, tests = _blocks("README.md", "sh")[:2]
    assert demo == "pip install . && bathyscope demo\n"
    # .ci/run takes the install and the test command from this block.
    assert tests == 'pip install -e ".[test]" && pytest -n 2\n'


@pytest.mark.parametrize("document", DOCUMENTS)
def test_commands_in_documents_exist(document: str) -> None:
    text = (ROOT / document).read_text()
    typed = re.findall(r"(?:^ *|`|&& )bathyscope ([a-z]+(?:-[a-z]+)*)", text, re.MULTILINE)
    assert typed or document == "deploy/README.md"
    assert set(typed) <= set(get_command(command_line()).commands)  # type: ignore[attr-defined]


def test_links_between_documents_have_targets() -> None:
    for document in DOCUMENTS:
        for target in re.findall(r"\]\(([^)#]+)\)", (ROOT / document).read_text()):
            if "://" not in target:
                assert ((ROOT / document).parent / target).exists(), f"{document} links to {target}"


def test_settings_example_is_accepted(tmp_path: Path) -> None:
    example, *additions = _blocks("docs/user-guide.md", "toml")
    config = tmp_path / "bathyscope.toml"
    config.write_text(example)
    settings = load_settings(config, environment={})
    assert settings.microscope.driver == "micromanager"
    assert settings.microscope.stage_max_step_um == 50.0
    assert settings.camera.roi == (512, 512, 512, 512)
    assert settings.microscope.micromanager.channel_group == "Channel"
    assert len(additions) == 2
    more = [load_settings(config, command_line=tomllib.loads(text), environment={}) for text in additions]
    assert more[0].microscope.focus_drives["Piezo"].high_um == 200.0
    assert more[1].microscope.micromanager.properties["Camera"]["TRIGGER SOURCE"] == "EXTERNAL"
    assert more[1].engine.frame_age_limit_s > more[1].microscope.micromanager.frame_timeout_s


def test_documented_defaults_are_the_defaults() -> None:
    settings = load_settings(environment={})
    engine = settings.engine
    assert (settings.host, settings.port) == ("127.0.0.1", 8000)
    assert (engine.free_space_floor_gb, engine.torch_threads, engine.run_at_start) == (5.0, None, False)


def test_each_setting_of_the_tracker_is_documented_with_its_default_and_range() -> None:
    text = (ROOT / "docs/tracks.md").read_text()
    for each in fields(TrackerSettings):
        (row,) = re.findall(rf"^\| `{each.name}` \| (.*) \|$", text, re.MULTILINE)
        rule = each.metadata
        assert row.startswith(rule["help"].rstrip("."))
        unit = f" {rule['unit']}" if rule["unit"] not in ("", "1") else ""
        values = f"({str(each.default).lower() if isinstance(each.default, bool) else format(each.default, 'g')}{unit}"
        bounds = "" if isinstance(each.default, bool) else f", {rule['low']:g} to {rule['high']:g}"
        assert row.endswith(f"{values}{bounds})")
