"""Every setting of Bathyscope, each declared once: default, unit, range and help.

One frozen model goes through the supervisor to all its children. Values come
from a TOML file, then the environment (``BATHYSCOPE_PORT=8001``, nested with
two underscores: ``BATHYSCOPE_CAMERA__EXPOSURE_S=0.009``), then the command
line; later ones win. A name that is not a setting is refused, and the error
suggests the nearest setting: a misspelt stage limit must not be ignored.
"""

from __future__ import annotations

import codecs
import difflib
import ipaddress
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import platformdirs
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from models.errors import DataError

__all__ = [
    "CameraPart",
    "EnginePart",
    "MicroManagerPart",
    "MicroscopePart",
    "ReplayPart",
    "Settings",
    "SimulatedPart",
    "is_loopback",
    "load_settings",
]

_PREFIX = "BATHYSCOPE_"
_SHORTEST_KEY = 16
"""Least number of characters of an access key: 16 random letters cannot be guessed over a network."""

_OTHER_VARIABLES = frozenset({"DEBUG", "SHARED", "PAGE", "BUILD", "CONFIG", "TEST", "REQUIRE"})
"""First words of BATHYSCOPE_ variables that belong to the build and the tests, not to the service."""


class _Part(BaseModel):
    """A group of settings."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def _path(value: Any) -> Any:
    """Refuse a value that is not a path, and the usual mistakes in writing one."""
    text = os.fspath(value) if isinstance(value, str | os.PathLike) else value
    if not isinstance(text, str):
        return value
    if not text.strip():
        raise ValueError("it is empty; name a folder or file, or leave the setting out")
    odd = next((letter for letter in text if ord(letter) < 32 or ord(letter) == 127), None)
    if odd is not None:
        raise ValueError(
            f"it holds the control character {odd!r}; in a TOML file write a Windows path in single quotes, "
            "'C:\\temp', because a backslash in double quotes begins an escape sequence"
        )
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError("its name is not UTF-8, so neither database nor page can name it; rename the folder") from None
    return value


PathName = Annotated[Path, BeforeValidator(_path)]
Positive = Annotated[float, Field(gt=0)]
Index = Annotated[float, Field(ge=1.0, le=2.0)]


class SimulatedPart(_Part):
    """The simulated microscope."""

    height: int = Field(default=256, ge=32, le=4096, description="Rows of the sensor, pixels.")
    width: int = Field(default=256, ge=32, le=4096, description="Columns of the sensor, pixels.")
    sample: Literal["swimming", "slide"] = Field(
        default="swimming",
        description="The sample: emitters that swim, or beads that lie still, for calibrations.",
    )
    emitters: int = Field(default=20, ge=0, le=1000, description="Emitters in view.")
    seed: int = Field(default=1, ge=0, description="The same seed gives the same scene.")
    frame_period_s: Positive | None = Field(
        default=0.01, description="Time from one exposure to the next, where that is longer than the exposure, s."
    )


class MicroManagerPart(_Part):
    """Micro-Manager through pycromanager."""

    mode: Literal["in-process", "bridge"] = Field(
        default="in-process", description="Load the core in this process, or connect to a running Micro-Manager (slow)."
    )
    app_path: PathName | None = Field(default=None, description="Folder of Micro-Manager, with its device adapters.")
    config_file: PathName | None = Field(default=None, description="Micro-Manager hardware configuration (.cfg).")
    buffer_mb: int = Field(default=256, ge=16, le=65536, description="Sequence buffer of the core, MB.")
    port: int = Field(default=4827, ge=1, le=65535, description="Port of the bridge, in bridge mode.")
    channel_group: str = Field(default="Channel", description="Configuration group that switches the light.")
    properties: dict[str, dict[str, str]] = Field(
        default_factory=dict, description="Device label, property, value: set at opening and read back."
    )
    stage_tolerance_um: Positive = Field(
        default=0.5, description="Greatest distance of the focus drive from its target, µm."
    )
    frame_timeout_s: Positive = Field(
        default=5.0, description="A camera without a frame for this time and two exposures is reported, s."
    )
    device_timeout_s: dict[str, Positive] = Field(
        default_factory=dict, description="Time-out of a device by its label, s."
    )


class ReplayPart(_Part):
    """A recorded movie, played as a microscope."""

    movie: PathName | None = Field(default=None, description="OME-Zarr, OME-TIFF or TIFF, (T, Y, X).")
    fps: float | None = Field(
        default=None, gt=0, le=10000, description="Frames a second; absent: the rate of the movie."
    )
    loop: bool = Field(default=True, description="Start again at the end.")
    back_and_forth: bool = Field(
        default=False, description="With loop: play backwards at the end, so that no emitter jumps."
    )
    in_memory: bool = Field(
        default=False, description="Read the whole movie into memory first, so that no frame waits for the disk."
    )
    truth: PathName | None = Field(
        default=None, description="Table (CSV, Parquet) of the true positions of the emitters; runs are then scored."
    )


class MicroscopePart(_Part):
    """The microscope, the relation of its focus drive to depth, and the limits of the drive."""

    driver: Literal["simulated", "micromanager", "replay"] = Field(
        default="simulated", description="Driver of the microscope."
    )
    moves: Literal["objective", "sample"] | None = Field(
        default=None,
        description="What the focus drive moves; gives the sign of z. Absent: as in Micro-Manager's FocusDirection.",
    )
    immersion_index: Index = Field(default=1.0, description="Refractive index between objective and cover slip.")
    sample_index: Index = Field(default=1.33, description="Refractive index of the sample.")
    stage_low_um: float = Field(default=-150.0, description="Lowest allowed position of the focus drive, µm.")
    stage_high_um: float = Field(default=150.0, description="Highest allowed position of the focus drive, µm.")
    stage_max_step_um: Positive = Field(default=100.0, description="Greatest step of the focus drive, µm.")
    simulated: SimulatedPart = Field(default=SimulatedPart(), description="Driver simulated.")
    micromanager: MicroManagerPart = Field(default=MicroManagerPart(), description="Driver micromanager.")
    replay: ReplayPart = Field(default=ReplayPart(), description="Driver replay.")

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.stage_low_um >= self.stage_high_um:
            raise ValueError(
                f"stage_low_um is {self.stage_low_um} and stage_high_um {self.stage_high_um}; the first must be lower"
            )
        core_is_here = self.driver == "micromanager" and self.micromanager.mode == "in-process"
        if core_is_here and self.micromanager.config_file is None:
            raise ValueError("micromanager.config_file is not set; the core needs a hardware configuration")
        if self.driver == "replay" and self.replay.movie is None:
            raise ValueError("replay.movie is not set; state the movie to play")
        return self


class CameraPart(_Part):
    """Settings of the camera when the microscope is opened."""

    # Most cameras give nearly 100 frames a second at 9 ms; the DemoCamera gives 92 at 10 ms.
    exposure_s: float = Field(default=0.009, gt=0, le=60, description="Exposure, s.")
    roi: tuple[int, int, int, int] | None = Field(
        default=None, description="Left, top, width, height on the sensor, binned pixels; absent: the whole sensor."
    )
    binning: int = Field(default=1, ge=1, le=8, description="Pixels combined to one, in each direction.")


class EnginePart(_Part):
    """The real-time process."""

    batch: int = Field(default=8, ge=1, le=256, description="Greatest number of frames that are localized at once.")
    deadline_ms: float = Field(
        default=0.0, ge=0, le=1000, description="Longest time that a frame waits until its batch is full, ms."
    )
    # Frames that wait longer would be shown too late; at 100 fps a pause of 0.24 s defers no frame.
    analysis_queue: int = Field(default=24, ge=1, le=10000, description="Frames that may wait for analysis.")
    # A shard of 64 frames of 2048 x 2048 takes about 1.4 s to compress and write; at 100 fps 140 frames come meanwhile.
    record_queue: int = Field(default=256, ge=2, le=10000, description="Frames that may wait to be recorded.")
    shard_frames: int = Field(default=64, ge=1, le=1024, description="Frames in one file of a recording.")
    free_space_floor_gb: float = Field(default=5.0, ge=0, description="Disk space that a recording leaves free, GB.")
    torch_threads: int | None = Field(
        default=None,
        ge=1,
        le=256,
        description="Threads of the network on a CPU; absent: the smallest number that keeps up.",
    )
    refine: bool = Field(default=False, description="Refine live localizations in the time before the next frame.")
    device: Literal["auto", "cpu", "cuda"] = Field(default="auto", description="Device on which the network runs.")
    precision: Literal["auto", "float32", "bfloat16", "int8"] = Field(
        default="auto", description="Arithmetic of the network."
    )
    frame_age_limit_s: Positive = Field(
        default=10.0, description="A run whose newest frame is older than this time and three exposures hangs, s."
    )
    # The longest time between two heartbeats is one second.
    heartbeat_limit_s: float = Field(
        default=15.0, ge=3.0, description="A process without a heartbeat for this time is killed, s."
    )
    run_at_start: bool = Field(default=False, description="Start a run as soon as the microscope is open.")
    record: bool = Field(default=False, description="Record the run at start.")


class Settings(BaseSettings):
    """All settings. Build one with `load_settings`."""

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", env_prefix=_PREFIX, env_nested_delimiter="__", allow_inf_nan=False
    )

    data_dir: Annotated[PathName, AfterValidator(Path.absolute)] = Field(
        default_factory=lambda: Path(platformdirs.user_data_dir("bathyscope", appauthor=False)),
        description="Folder of calibrations, models, recordings and database; on a local disk.",
    )
    database_url: str | None = Field(default=None, description="PostgreSQL, by URL; absent: SQLite in the data folder.")
    host: str = Field(default="127.0.0.1", description="Address to listen on.")
    port: int = Field(default=8000, ge=0, le=65535, description="Port to listen on; 0: any free port.")
    access_key: SecretStr | None = Field(
        default=None, description="Key that clients must send; required when other machines can connect."
    )
    allowed_hosts: tuple[str, ...] = Field(
        default=(), description="Host names that browsers may use for this service, in addition to loopback and `host`."
    )
    log_level: Literal["debug", "info", "warning"] = Field(default="info", description="Lowest level that is logged.")
    model: PathName | None = Field(default=None, description="Folder of the model at start; absent: the shipped one.")
    microscope: MicroscopePart = Field(default=MicroscopePart(), description="The microscope.")
    camera: CameraPart = Field(default=CameraPart(), description="The camera.")
    engine: EnginePart = Field(default=EnginePart(), description="The real-time process.")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only the given values: `load_settings` has already joined file, environment and command line."""
        return (init_settings,)

    @model_validator(mode="after")
    def _guarded(self) -> Self:
        key = self.access_key.get_secret_value() if self.access_key else None
        if key is not None and len(key) < _SHORTEST_KEY:
            raise ValueError(f"access_key has {len(key)} characters; at least {_SHORTEST_KEY} are needed")
        if key is not None and (key != key.strip() or not (key.isascii() and key.isprintable())):
            raise ValueError(
                "access_key has blanks at its ends or characters beyond ASCII, which clients cannot send; "
                "use letters and digits, for example from `openssl rand -hex 24`"
            )
        if key is None and not is_loopback(self.host):
            raise ValueError(
                f"host is {self.host}, which other machines can reach, and there is no access_key; "
                "set BATHYSCOPE_ACCESS_KEY to a long random word, or listen on 127.0.0.1"
            )
        return self

    @property
    def database(self) -> str | Path:
        """The database for `Store.open`: the URL, or the SQLite file in the data folder."""
        return self.database_url or self.data_dir / "bathyscope.db"


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def load_settings(
    config: Path | None = None,
    command_line: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] | None = None,
) -> Settings:
    """Join file, environment and command line; later ones win.

    Parameters
    ----------
    config : Path or None
        A TOML file with the names of `Settings`; groups are tables.
    command_line : mapping or None
        Nested values; None means "not given".
    environment : mapping or None
        Instead of `os.environ`.

    Raises
    ------
    DataError
        For a file that cannot be read, a name that is not a setting, a value
        out of range, or an address beyond loopback without an access key.
    """
    environment = os.environ if environment is None else environment
    values: dict[str, Any] = {}
    for source in (_from_file(config), _from_environment(environment), _given(command_line or {})):
        values = _merge(values, source)
    try:
        settings = Settings(**values)
    except ValidationError as error:
        raise _explain(error, config) from None
    if os.path.lexists(settings.data_dir) and not settings.data_dir.is_dir():
        raise DataError(f"The data directory {settings.data_dir} is a file.", "Name a folder; it is made when missing.")
    return settings


def _from_file(config: Path | None) -> dict[str, Any]:
    if config is None:
        return {}
    try:
        written = config.read_bytes()
    except OSError as error:
        raise DataError(
            f"The settings file {config} cannot be read ({error.strerror}).", "Check the path of --config."
        ) from error
    text = _decoded(written, config)
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise DataError(f"The settings file {config} is not TOML ({error}).", _toml_remedy(text, str(error))) from error


def _decoded(written: bytes, config: Path) -> str:
    """The text of a settings file: UTF-8, or UTF-16 with a byte order mark (Windows)."""
    encoding = "utf-16" if written.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    try:
        return written.decode(encoding)
    except UnicodeDecodeError as error:
        line = written.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"The settings file {config} is not {'UTF-16' if encoding == 'utf-16' else 'UTF-8'} (line {line}).",
            "Save it as UTF-8; in Notepad that is chosen beside the name in the dialog Save as.",
        ) from error


_LINE = re.compile(r"at line (\d+)")


def _toml_remedy(text: str, message: str) -> str:
    """How to correct the line at which the parser stopped, for the usual mistakes."""
    place = _LINE.search(message)
    lines = text.splitlines()
    # For an error at the end of the document there is no line number; it is in the last line.
    number = int(place.group(1)) if place else len(lines)
    line = lines[number - 1] if 0 < number <= len(lines) else ""
    begin = f"Line {number}: "
    if re.search(r'"[^"]*\\', line):
        return begin + "write a Windows path in single quotes, 'C:\\Users\\lab', or with slashes."
    if re.search(r"=\s*[-+]?\d+,\d+", line):
        return begin + "write a decimal point, 0.009, not a comma."
    if re.search("[“”„«»]", line):
        return begin + "write straight quotes, ' or \"."
    if re.search(r"^\s*[\w.]+\s*=\s*[A-Za-z/~]", line):
        return begin + "write text in quotes, and true and false in small letters."
    return "Correct the file at that place."


def _from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    given = {name: value for name, value in environment.items() if name.upper().startswith(_PREFIX)}
    for name in given:
        first = name[len(_PREFIX) :].split("__")[0].lower()
        if first not in Settings.model_fields and first.split("_")[0].upper() not in _OTHER_VARIABLES:
            raise DataError(
                f"The environment variable {name} is not a setting.",
                _near_miss(first, Settings.model_fields, lambda near: f"{_PREFIX}{near.upper()}"),
            )
    source = EnvSettingsSource(Settings)
    source.env_vars = {name.lower(): value for name, value in given.items()}
    try:
        return source()
    except ValueError as error:
        raise DataError(
            f"The environment cannot be read as settings ({error}).", "Lists are written as JSON."
        ) from error


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    """Drop the values that the command line does not set."""
    nested = {name: _given(value) if isinstance(value, Mapping) else value for name, value in values.items()}
    return {name: value for name, value in nested.items() if value is not None and value != {}}


def _merge(lower: Mapping[str, Any], upper: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(lower)
    for name, value in upper.items():
        below = merged.get(name)
        merged[name] = _merge(below, value) if isinstance(value, Mapping) and isinstance(below, Mapping) else value
    return merged


def _near_miss(name: str, known: Iterable[str], shown: Any = str) -> str:
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"Did you mean {shown(near[0])}?" if near else f"The settings are: {', '.join(known)}."


def _explain(error: ValidationError, config: Path | None) -> DataError:
    """The first error as value, rule and remedy."""
    fault = error.errors(include_url=False)[0]
    place = [str(part) for part in fault["loc"]]
    where = ".".join(place)
    if fault["type"] == "extra_forbidden":
        fields = Settings.model_fields
        for part in place[:-1]:
            fields = _part_fields(fields, part)
        near = _near_miss(place[-1], fields, lambda name: ".".join([*place[:-1], name]))
        return DataError(f"{where} is not a setting.", near)
    source = f"{config}, " if config else ""
    remedy = f"Correct it in {source}the environment ({_PREFIX}...) or on the command line."
    message = fault["msg"].removeprefix("Value error, ")
    if fault["type"] == "value_error" and isinstance(fault["input"], str | os.PathLike):
        return DataError(f"The setting {where} is {str(fault['input'])!r}: {message}.", remedy)
    if not where or fault["type"] == "value_error":
        return DataError(f"The settings are not valid: {f'{where}: ' if where else ''}{message}.", remedy)
    given = "hidden" if "key" in where else repr(fault["input"])
    if re.fullmatch(r"\s*[-+]?\d+,\d+\s*", str(fault["input"])):
        remedy = f"Write a decimal point, not a comma. {remedy}"
    return DataError(f"The setting {where} is {given}: {message}.", remedy)


def _part_fields(fields: Mapping[str, Any], part: str) -> dict[str, Any]:
    kind = fields[part].annotation if part in fields else None
    return dict(kind.model_fields) if isinstance(kind, type) and issubclass(kind, BaseModel) else {}
