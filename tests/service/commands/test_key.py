"""``bathyscope key``: make, list and revoke access keys."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from service.commands.application import main
from service.files.access_keys import AccessKeys, hashed


def key(monkeypatch: pytest.MonkeyPatch, data: Path, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["bathyscope", "key", *arguments, "--data", str(data)])
    try:
        main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def test_a_key_is_shown_once_listed_without_itself_and_revoked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    data = tmp_path / "data"
    assert key(monkeypatch, data, "list") == 0
    assert "no keys" in capsys.readouterr().err
    assert key(monkeypatch, data, "add", "page", "--role", "view") == 0
    shown = capsys.readouterr()
    made = shown.out.strip()
    assert made not in shown.err
    assert AccessKeys(data).records()[0].sha256 == hashed(made)
    assert key(monkeypatch, data, "list") == 0
    listed = capsys.readouterr().out
    assert listed.startswith("page\tview\t20")
    assert made not in listed
    assert key(monkeypatch, data, "revoke", "page") == 0
    assert AccessKeys(data).records() == []


def test_what_is_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert key(monkeypatch, tmp_path, "add", "page", "--role", "owner") == 2
    assert key(monkeypatch, tmp_path, "add", "page") == 2
    assert key(monkeypatch, tmp_path, "revoke", "page") == 1
    assert "There is no key 'page'. The keys are: none." in capsys.readouterr().err
    assert key(monkeypatch, tmp_path, "add", "page", "--role", "view") == 0
    assert key(monkeypatch, tmp_path, "add", "page", "--role", "view") == 1
    assert "revoke that key first" in capsys.readouterr().err
    (tmp_path / "access-keys.json").write_text('{"kind": "bathyscope access keys", "keys": [{"name": "x"}]}')
    assert key(monkeypatch, tmp_path, "list") == 1
    assert "Restore the file" in capsys.readouterr().err


def test_keys_are_made_before_the_service_may_listen_elsewhere(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("BATHYSCOPE_HOST", "0.0.0.0")
    assert key(monkeypatch, tmp_path, "add", "page", "--role", "view") == 0
    assert len(capsys.readouterr().out.strip()) >= 43
