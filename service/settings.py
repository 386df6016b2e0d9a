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
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from hardware.driver import DriverSettings
from hardware.drivers import BUILT_IN, driver_kinds, load_driver
from hardware.micromanager_settings import MicroManagerSettings
from hardware.microscope import MicroscopeError
from hardware.remote import is_remote, place_of_url
from hardware.replay_settings import ReplaySettings
from hardware.setting_types import PathName, Positive
from hardware.simulated_settings import SimulatedSettings
from models.background.mode import StaticLightMode
from models.errors import DataError
from service.files.access_keys import AccessKeys
from service.tracking_settings import TrackingPart

__all__ = [
    "SCOPE_NAME",
    "AnalysisPart",
    "CameraPart",
    "CopyOffPart",
    "EnginePart",
    "MicroscopePart",
    "RelayPart",
    "ReprocessPart",
    "RetentionPart",
    "Settings",
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


Index = Annotated[float, Field(ge=1.0, le=2.0)]


class FocusDrivePart(_Part):
    """Limits of a further focus drive, and what it moves."""

    low_um: float = Field(description="Lowest allowed position, µm.")
    high_um: float = Field(description="Highest allowed position, µm.")
    max_step_um: Positive = Field(default=100.0, description="Greatest step, µm.")
    moves: Literal["objective", "sample"] | None = Field(
        default=None, description="What it moves; absent: as in Micro-Manager's FocusDirection."
    )

    @model_validator(mode="after")
    def _rising(self) -> Self:
        if self.low_um >= self.high_um:
            raise ValueError(f"low_um is {self.low_um} and high_um {self.high_um}; the first must be lower")
        return self


class MicroscopePart(_Part):
    """The microscope, the relation of its focus drive to depth, and the limits of focus drive and XY stage.

    Each driver declares its own settings, in a table of its name. The tables of drivers that other packages install
    are extra fields of this model.
    """

    model_config = ConfigDict(extra="allow")

    driver: str = Field(
        default="simulated",
        description="Driver of the microscope: simulated, micromanager, replay, or one that another package installs.",
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
    focus_drives: dict[str, FocusDrivePart] = Field(
        default_factory=dict,
        description="Limits of further focus drives by label; a drive without limits is not chosen. "
        "stage_low_um and the others are those of the drive with the role Core-Focus.",
    )
    xy_low_um: tuple[float, float] | None = Field(
        default=None, description="Lowest allowed x and y of the XY stage, µm; absent: a real one is not moved."
    )
    xy_high_um: tuple[float, float] | None = Field(
        default=None, description="Highest allowed x and y of the XY stage, µm."
    )
    xy_max_step_um: Positive = Field(default=1000.0, description="Greatest step of the XY stage in each axis, µm.")
    simulated: SimulatedSettings = Field(default=SimulatedSettings(), description="Driver simulated.")
    micromanager: MicroManagerSettings = Field(default=MicroManagerSettings(), description="Driver micromanager.")
    replay: ReplaySettings = Field(default=ReplaySettings(), description="Driver replay.")

    def moves_of(self, drive: str | None) -> Literal["objective", "sample"] | None:
        """What a focus drive moves, as far as the settings state it."""
        further = None if drive is None else self.focus_drives.get(drive)
        return self.moves if further is None else further.moves

    @property
    def driver_settings(self) -> DriverSettings:
        """Settings of the driver that is in use."""
        own: DriverSettings = getattr(self, self.driver)
        return own

    @model_validator(mode="before")
    @classmethod
    def _validate_other_drivers(cls, values: Any) -> Any:
        """Validate the tables of drivers of other packages, by the settings that these declare."""
        if not isinstance(values, Mapping):
            return values
        given = dict(values)
        names = [name for name in (*given, given.get("driver")) if isinstance(name, str)]
        others = [name for name in dict.fromkeys(names) if name not in cls.model_fields]
        installed = driver_kinds() if others else ()
        for kind in others:
            if kind in installed:
                try:
                    given[kind] = load_driver(kind).settings.model_validate(given.get(kind, {}))
                except ValidationError as error:
                    raise _within(kind, error) from None
        return given

    @field_validator("driver")
    @classmethod
    def _is_installed(cls, driver: str) -> str:
        if driver not in BUILT_IN and driver not in (installed := driver_kinds()):
            raise ValueError(f"no such driver is installed; there are {', '.join(installed)}")
        return driver

    @model_validator(mode="after")
    def _complete(self) -> Self:
        for name, value in (self.model_extra or {}).items():
            if not isinstance(value, DriverSettings):
                fault = InitErrorDetails(type="extra_forbidden", loc=(name,), input=value)
                raise ValidationError.from_exception_data("MicroscopePart", [fault])
        if self.stage_low_um >= self.stage_high_um:
            raise ValueError(
                f"stage_low_um is {self.stage_low_um} and stage_high_um {self.stage_high_um}; the first must be lower"
            )
        if self.xy_low_um is None or self.xy_high_um is None:
            if self.xy_low_um != self.xy_high_um:
                raise ValueError("xy_low_um and xy_high_um are set together, or both are absent")
        elif not (self.xy_low_um[0] < self.xy_high_um[0] and self.xy_low_um[1] < self.xy_high_um[1]):
            raise ValueError(
                f"xy_low_um is {self.xy_low_um} and xy_high_um {self.xy_high_um}; the first must be lower in x and in y"
            )
        try:
            self.driver_settings.check_complete()
        except ValueError as error:
            raise ValueError(f"{self.driver}.{error}") from None
        return self


def _within(name: str, error: ValidationError) -> ValidationError:
    """The same errors, placed within the group `name`."""
    faults = [
        InitErrorDetails(
            type=PydanticCustomError(fault["type"], "{text}", {"text": fault["msg"]}),
            loc=(name, *fault["loc"]),
            input=fault["input"],
        )
        for fault in error.errors(include_url=False)
    ]
    return ValidationError.from_exception_data(error.title, faults)


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
    network_process: bool = Field(
        default=True, description="Run the network in a process of its own when it runs on a CPU."
    )
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


class RetentionPart(_Part):
    """Which recordings or runs the service deletes by itself; without a rule it deletes nothing."""

    what: Literal["recording", "run"] = Field(
        default="recording", description="Delete recordings and keep their tracks, or delete whole runs."
    )
    keep_days: float | None = Field(
        default=None, gt=0, le=36_500, description="Delete what ended longer ago than this, days; absent: no rule."
    )
    most_gb: float | None = Field(
        default=None, gt=0, le=1e9, description="Most space of all recordings, GB, oldest first; absent: no rule."
    )
    free_gb: float | None = Field(
        default=None, gt=0, le=1e9, description="Free space of their disk, GB, oldest first; absent: no rule."
    )

    @property
    def is_set(self) -> bool:
        """Whether there is a rule."""
        return any(limit is not None for limit in (self.keep_days, self.most_gb, self.free_gb))


class CopyOffPart(_Part):
    """Where finished recordings are copied to.

    When this is set, the rules of retention for recordings delete only local files of which a verified copy exists.
    """

    url: Annotated[str, Field(min_length=1, max_length=1000)] | None = Field(
        default=None,
        description="s3://BUCKET/FOLDER, or a folder that exists, also of a network share; absent: no copies.",
    )

    @field_validator("url")
    @classmethod
    def _is_a_place(cls, url: str | None) -> str | None:
        if url is not None and not is_remote(place := place_of_url(url)) and not Path(place).is_absolute():
            raise ValueError("a folder is named by its whole path")
        return url


class AnalysisPart(_Part):
    """From frames to localizations."""

    static_light: StaticLightMode = Field(
        default="auto",
        description="Remove light that stands still over time: auto (where emitters do not explain it), on or off.",
    )


class ReprocessPart(_Part):
    """Where the jobs of the service compute the tracks of recorded runs again."""

    scheduler: Annotated[str, Field(pattern=r"^(tcp|tls|ws|wss)://[^\s/]+$", max_length=300)] | None = Field(
        default=None,
        description="Address of a Dask scheduler, tcp://HOST:8786; absent: in one process of the service. "
        "Its workers see the data directory at the same path.",
    )


SCOPE_NAME = "[A-Za-z0-9_-]{1,64}"
"""Names of scopes are parts of subjects and of paths."""


class RelayPart(_Part):
    """Live results of this scope for a relay, and the scopes of a relay, through a NATS server."""

    nats: Annotated[str, Field(pattern=r"^(nats|tls)://[^\s/@]+$", max_length=300)] | None = Field(
        default=None, description="Address of the NATS server, nats://HOST:4222; absent: nothing is published."
    )
    token: SecretStr | None = Field(default=None, description="Token that the NATS server asks for.")
    scope: Annotated[str, Field(pattern=f"^{SCOPE_NAME}$")] = Field(
        default="scope", description="Name of this scope, which no other scope of the server has."
    )
    most_scopes: int = Field(default=256, ge=1, le=10_000, description="Of a relay: scopes that it shows.")


def _user_folder() -> Path:
    """The folder of this user's data.

    Raises
    ------
    DataError
        When the user has no home folder.
    """
    try:
        return Path(platformdirs.user_data_dir("bathyscope", appauthor=False))
    except RuntimeError as error:
        raise DataError("This user has no home folder for the data.", "Name a folder with --data.") from error


class Settings(BaseSettings):
    """All settings. Build one with `load_settings`."""

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", env_prefix=_PREFIX, env_nested_delimiter="__", allow_inf_nan=False
    )

    data_dir: Annotated[PathName, AfterValidator(Path.absolute)] = Field(
        default_factory=_user_folder,
        description="Folder of calibrations, models, recordings and database; on a local disk.",
    )
    database_url: str | None = Field(default=None, description="PostgreSQL, by URL; absent: SQLite in the data folder.")
    host: str = Field(default="127.0.0.1", description="Address to listen on.")
    port: int = Field(default=8000, ge=0, le=65535, description="Port to listen on; 0: any free port.")
    access_key: SecretStr | None = Field(
        default=None, description="Key that clients must send, with the role administer; see also bathyscope key."
    )
    allowed_hosts: tuple[str, ...] = Field(
        default=(), description="Host names that browsers may use for this service, in addition to loopback and `host`."
    )
    tls_certificate: PathName | None = Field(
        default=None, description="Certificate chain (PEM) with which the service speaks HTTPS; absent: HTTP."
    )
    tls_key: PathName | None = Field(
        default=None, description="Private key of the certificate (PEM), without password."
    )
    path_prefix: Annotated[str, Field(pattern=r"^(/[A-Za-z0-9._~-]+)*$", max_length=200)] = Field(
        default="", description="Path under which a reverse proxy shows the service: /scope."
    )
    trusted_proxies: tuple[str, ...] = Field(
        default=(), description="Addresses of reverse proxies whose X-Forwarded-For and X-Forwarded-Proto are believed."
    )
    requests_per_s: float = Field(
        default=50.0, ge=1, le=1e6, description="Requests a second from one other machine; more get status 429."
    )
    upload_most_gb: float = Field(
        default=8.0,
        gt=0,
        le=1000,
        description="Largest sweep that a request may bring, GB; larger ones get status 413.",
    )
    log_level: Literal["debug", "info", "warning"] = Field(default="info", description="Lowest level that is logged.")
    model: PathName | None = Field(default=None, description="Folder of the model at start; absent: the shipped one.")
    microscope: MicroscopePart = Field(default=MicroscopePart(), description="The microscope.")
    camera: CameraPart = Field(default=CameraPart(), description="The camera.")
    engine: EnginePart = Field(default=EnginePart(), description="The real-time process.")
    retention: RetentionPart = Field(default=RetentionPart(), description="What is deleted by itself.")
    copy_off: CopyOffPart = Field(default=CopyOffPart(), description="Where finished recordings are copied to.")
    relay: RelayPart = Field(default=RelayPart(), description="Live results for viewers of several scopes.")
    reprocess: ReprocessPart = Field(default=ReprocessPart(), description="Where recorded runs are analysed again.")
    analysis: AnalysisPart = Field(default=AnalysisPart(), description="From frames to localizations.")
    tracking: TrackingPart = Field(default=TrackingPart(), description="How localizations become tracks.")

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
        if key is None and not is_loopback(self.host) and not AccessKeys(self.data_dir).records():
            raise ValueError(
                f"host is {self.host}, which other machines can reach, and there is no access_key; "
                "make a key with `bathyscope key add`, set BATHYSCOPE_ACCESS_KEY to a long random word, "
                "or listen on 127.0.0.1"
            )
        if (self.tls_certificate is None) != (self.tls_key is None):
            missing = "tls_key" if self.tls_key is None else "tls_certificate"
            raise ValueError(f"{missing} is not set; HTTPS needs tls_certificate and tls_key")
        return self

    @property
    def scheme(self) -> Literal["http", "https"]:
        """What the service speaks."""
        return "http" if self.tls_certificate is None else "https"

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
    try:
        for source in (_from_file(config), _from_environment(environment), _given(command_line or {})):
            values = _merge(values, source)
        settings = Settings(**values)
    except ValidationError as error:
        raise _explain(error, config) from None
    except MicroscopeError as error:  # a driver of another package that cannot be imported
        raise DataError(error.problem, error.remedy) from error
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
        values = source()
        _decode_other_drivers(source, values)
        return values
    except ValueError as error:
        raise DataError(
            f"The environment cannot be read as settings ({error}).", "Lists are written as JSON."
        ) from error


def _decode_other_drivers(source: EnvSettingsSource, values: dict[str, Any]) -> None:
    """Read lists and tables in the settings of other packages' drivers from JSON, as `source` does for known fields."""
    tables = values.get("microscope")
    if not isinstance(tables, dict):
        return
    others = [kind for kind, table in tables.items() if kind not in MicroscopePart.model_fields and table]
    for kind in set(others).intersection(driver_kinds() if others else ()):
        table, fields = tables[kind], load_driver(kind).settings.model_fields
        for name, text in table.items() if isinstance(table, dict) else ():
            if name in fields and isinstance(text, str) and source.field_is_complex(fields[name]):
                table[name] = source.decode_complex_value(name, fields[name], text)


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
    if part not in fields:
        return dict(load_driver(part).settings.model_fields) if part in driver_kinds() else {}
    kind = fields[part].annotation
    return dict(kind.model_fields) if isinstance(kind, type) and issubclass(kind, BaseModel) else {}
