"""Provenance of results: what it states, and when the commit is known."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path

import pytest

from evaluation.runs import provenance
from evaluation.runs.provenance import command_line, current_provenance, write_result


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository of one commit that takes the place of the project's."""
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    (tmp_path / "file").write_text("1")
    for words in (["init", "-q"], ["add", "file"], [*identity, "commit", "-qm", "one"]):
        subprocess.run(["git", "-C", str(tmp_path), *words], check=True)
    monkeypatch.setattr(provenance, "_PROJECT", tmp_path)
    return tmp_path


def test_a_result_states_command_versions_machine_date_and_seeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["bathyscope", "bench", "api", "--json", "two words.json"])
    file = tmp_path / "result.json"
    write_result(file, {"fps": 100.0}, {"scene": 1})
    result = json.loads(file.read_text())
    assert result["fps"] == 100.0
    known = result["provenance"]
    assert set(known) == {"command", "version", "commit", "dirty", "date", "machine", "packages", "seeds"}
    assert known["command"] == command_line() == "bathyscope bench api --json 'two words.json'"
    assert known["seeds"] == {"scene": 1}
    assert known["packages"]["torch"] == version("torch")
    assert set(known["packages"]) == {"python", "torch", "numpy"}
    assert set(known["machine"]) == {"processor", "cores", "amx", "memory_gb", "system"}
    assert known["machine"]["cores"] >= 1
    assert known["machine"]["memory_gb"] > 0
    assert datetime.now(UTC) - datetime.fromisoformat(known["date"]) < timedelta(minutes=1)


def test_commit_and_changes_of_a_checkout(checkout: Path) -> None:
    clean = current_provenance()
    head = subprocess.run(["git", "-C", str(checkout), "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    assert (clean.commit, clean.dirty) == (head.stdout.strip(), False)
    # A file that is not tracked, such as the result itself, changes no code.
    (checkout / "result.json").write_text("{}")
    assert current_provenance().dirty is False
    (checkout / "file").write_text("2")
    assert current_provenance().dirty is True


def test_an_installed_package_has_no_commit(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inside = checkout / "lib" / "site-packages"
    inside.mkdir(parents=True)
    monkeypatch.setattr(provenance, "_PROJECT", inside)
    assert (current_provenance().commit, current_provenance().dirty) == (None, None)


def test_without_git_the_commit_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evaluation.runs.provenance.shutil.which", lambda _name: None)
    assert current_provenance().commit is None
