from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from models.errors import DataError
from service.settings import is_loopback, load_settings

KEY = "a-key-of-32-letters-for-the-tests"


@pytest.fixture
def config(tmp_path: Path) -> Any:
    path = tmp_path / "bathyscope.toml"
    path.write_text("port = 8100\nhost = '127.0.0.1'\n[camera]\nexposure_s = 0.02\nbinning = 2\n")
    return path


def test_later_sources_win(config: Any) -> None:
    environment = {"BATHYSCOPE_PORT": "8200", "BATHYSCOPE_CAMERA__EXPOSURE_S": "0.03"}
    settings = load_settings(config, {"port": 8300}, environment)
    assert settings.port == 8300
    assert settings.camera.exposure_s == 0.03
    assert settings.camera.binning == 2
    assert load_settings(config, environment={}).port == 8100
    assert load_settings(environment={}).port == 8000


def test_what_the_command_line_leaves_out_counts_as_not_given(config: Any) -> None:
    assert load_settings(config, {"port": None, "camera": {"binning": None}}, {}).port == 8100


def test_environment_sets_the_data_directory(tmp_path: Path) -> None:
    settings = load_settings(environment={"BATHYSCOPE_DATA_DIR": str(tmp_path)})
    assert settings.data_dir == tmp_path
    assert settings.database == tmp_path / "bathyscope.db"
    assert load_settings(environment={"BATHYSCOPE_DATABASE_URL": "postgresql://a/b"}).database == "postgresql://a/b"


def test_a_relative_data_directory_stays_where_it_was_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    settings = load_settings(command_line={"data_dir": "data"}, environment={})
    monkeypatch.chdir("/")
    assert settings.data_dir == tmp_path / "data"


def test_variables_of_build_and_tests_are_not_settings() -> None:
    load_settings(environment={"BATHYSCOPE_DEBUG": "1", "BATHYSCOPE_SHARED": "/somewhere"})


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"environment": {"BATHYSCOPE_PROT": "1"}}, "Did you mean BATHYSCOPE_PORT"),
        ({"environment": {"BATHYSCOPE_CAMERA__EXPOSUR_S": "1"}}, "Did you mean camera.exposure_s"),
        ({"command_line": {"engine": {"batsh": 1}}}, "engine.batsh is not a setting. Did you mean engine.batch"),
        ({"command_line": {"port": 70000}}, "port is 70000"),
        ({"command_line": {"data_dir": ""}}, "data_dir is '': it is empty"),
        ({"environment": {"BATHYSCOPE_DATA_DIR": ""}}, "it is empty"),
        ({"environment": {"BATHYSCOPE_DATA_DIR": "/data/\udce9"}}, "its name is not UTF-8"),
        ({"environment": {"BATHYSCOPE_CAMERA__EXPOSURE_S": "0,02"}}, "Write a decimal point"),
        ({"command_line": {"engine": {"heartbeat_limit_s": 1.0}}}, "engine.heartbeat_limit_s is 1.0"),
        ({"environment": {"BATHYSCOPE_ACCESS_KEY": " key-with-a-blank-before"}}, "clients cannot send"),
        ({"environment": {"BATHYSCOPE_ACCESS_KEY": "key-with-an-umlaut-ü"}}, "clients cannot send"),
        ({"environment": {"BATHYSCOPE_ACCESS_KEY": "key-with-a-line\nbreak"}}, "clients cannot send"),
        ({"command_line": {"camera": {"exposure_s": float("nan")}}}, "camera.exposure_s is nan"),
        ({"environment": {"BATHYSCOPE_ALLOWED_HOSTS": "a b"}}, "Lists are written as JSON"),
        ({"command_line": {"microscope": {"driver": "replay"}}}, "replay.movie is not set"),
        (
            {"command_line": {"microscope": {"driver": "micromanager", "moves": "sample"}}},
            "micromanager.config_file is not set",
        ),
        ({"command_line": {"microscope": {"stage_low_um": 10, "stage_high_um": 5}}}, "the first must be lower"),
        ({"command_line": {"microscope": {"xy_low_um": [0, 0]}}}, "set together"),
        (
            {"command_line": {"microscope": {"focus_drives": {"Piezo": {"low_um": 9, "high_um": 0}}}}},
            "the first must be lower",
        ),
        ({"command_line": {"microscope": {"focus_drives": {"Piezo": {"low_um": 9}}}}}, "Piezo.high_um"),
        ({"command_line": {"microscope": {"xy_low_um": [0, 5], "xy_high_um": [9, 5]}}}, "lower in x and in y"),
        ({"command_line": {"host": "0.0.0.0"}}, "there is no access_key"),
        ({"command_line": {"access_key": "short"}}, "at least 16 are needed"),
        ({"command_line": {"nothing_like_it_at_all": 1}}, "The settings are: data_dir"),
    ],
)
def test_refusals_name_value_and_remedy(given: Any, said: str) -> None:
    with pytest.raises(DataError) as refusal:
        load_settings(**({"environment": {}} | given))
    assert said in str(refusal.value)
    assert refusal.value.remedy


def test_a_key_is_never_shown() -> None:
    with pytest.raises(DataError) as refusal:
        load_settings(command_line={"access_key": "tooshortkey"}, environment={})
    assert "tooshortkey" not in str(refusal.value)
    settings = load_settings(command_line={"access_key": KEY, "host": "0.0.0.0"}, environment={})
    assert KEY not in repr(settings)
    assert settings.access_key is not None
    assert settings.access_key.get_secret_value() == KEY


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_files_of_windows_editors_are_read(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "bathyscope.toml"
    path.write_text("# µ\r\nport = 8100\r\n", encoding=encoding, newline="")
    assert load_settings(path, environment={}).port == 8100


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("port = ", "is not TOML"),
        ("port = 1\n# \xb5", r"is not UTF-8 \(line 2\)\. Save it as UTF-8"),
        ('port = 1\ndata_dir = "D:\\Users\\me"', "Line 2: write a Windows path in single quotes"),
        ("[camera]\nexposure_s = 0,02", "Line 2: write a decimal point"),
        ("model = D:/models/a", "Line 1: write text in quotes"),
        ('data_dir = "D:\\new"', "control character '.n'; in a TOML file write a Windows path in single quotes"),
        ('data_dir = ""', "it is empty"),
        ('model = "  "', "model is '  ': it is empty"),
        ('data_dir = "a\\u0000b"', "control character"),
    ],
)
def test_a_broken_file_is_refused_with_the_line_and_its_remedy(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "broken.toml"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(DataError, match=said):
        load_settings(path, environment={})
    with pytest.raises(DataError, match="cannot be read"):
        load_settings(tmp_path / "absent.toml", environment={})


def test_settings_are_frozen_and_reach_child_processes() -> None:
    settings = load_settings(command_line={"access_key": KEY}, environment={})
    with pytest.raises(ValidationError):
        settings.port = 1
    assert pickle.loads(pickle.dumps(settings)) == settings


def test_every_setting_has_a_help_text() -> None:
    def check(model: Any) -> None:
        for name, field in model.model_fields.items():
            assert field.description, name
            if hasattr(field.annotation, "model_fields"):
                check(field.annotation)

    check(type(load_settings(environment={})))


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False), ("scope.lab", False)],
)
def test_loopback(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback
