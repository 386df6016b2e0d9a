"""Text of devices and configurations in any encoding: nothing dies of a letter, and names work in both directions."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import msgpack
import pytest

from hardware.core_text import TextCore, clean_text, readable_configuration
from hardware.micromanager import MicroManagerMicroscope
from hardware.microscope import MicroscopeError

OpenDemo = Callable[..., MicroManagerMicroscope]

PRESET = "GFP 25µm é ±3"
CONFIGURATION = f"""\
Property,Core,Initialize,0
Device,DHub,DemoCamera,DHub
Device,Camera,DemoCamera,DCam
Device,Antrieb für Höhe,DemoCamera,DStage
Device,Wheel,DemoCamera,DWheel
Property,Core,Initialize,1
Property,Core,Camera,Camera
Property,Core,Focus,Antrieb für Höhe
ConfigGroup,Channel,{PRESET},Wheel,State,2
ConfigGroup,Channel,plain,Wheel,State,1
"""


def storable(text: str) -> bool:
    return bool(msgpack.unpackb(msgpack.packb(text)) == json.loads(json.dumps(text)) == text.encode().decode())


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1", "cp1252", "utf-16", "utf-16-le with mark"])
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_a_configuration_in_any_encoding_works_in_both_directions(
    open_demo: OpenDemo, tmp_path: Path, encoding: str, ending: str
) -> None:
    config = tmp_path / "old.cfg"
    text = CONFIGURATION.replace("\n", ending)
    raw = b"\xff\xfe" + text.encode("utf-16-le") if "mark" in encoding else text.encode(encoding)
    config.write_bytes(raw)
    microscope = open_demo(config_file=config)
    assert microscope.description.focus_stage == "Antrieb für Höhe"
    assert set(microscope.light.channels) == {PRESET, "plain"}
    assert microscope.set_light(channel=PRESET).channel == PRESET
    assert microscope._core.get_property("Wheel", "State") == "2"
    assert config.read_bytes() == raw


def test_the_copy_is_gone_afterwards_and_a_readable_file_is_not_copied(tmp_path: Path) -> None:
    config = tmp_path / "old.cfg"
    config.write_text(CONFIGURATION, encoding="utf-8", newline="\n")
    with readable_configuration(config) as readable:
        assert readable == config
    config.write_text(CONFIGURATION, encoding="latin-1")
    with readable_configuration(config) as readable:
        assert readable != config
        assert PRESET in readable.read_text(encoding="utf-8")
    assert not readable.exists()


@pytest.mark.parametrize("raw", ["Device,X\n".encode("utf-16-le"), b"\x7fELF\0\0\1", b"\xff\xfe\x00\xd8\x00"])
def test_what_is_no_text_is_refused(open_demo: OpenDemo, tmp_path: Path, raw: bytes) -> None:
    config = tmp_path / "binary.cfg"
    config.write_bytes(raw)
    with pytest.raises(MicroscopeError, match="no text file"):
        open_demo(config_file=config)


@pytest.mark.parametrize(
    ("came", "clean"),
    [
        ("plain", "plain"),
        ("25\udcb5m \udcb13", "25µm ±3"),
        (b"25\xb5m", "25µm"),
        ("25 µm".encode().decode("ascii", "surrogateescape"), "25 µm"),
        ("a\x00b\x1b[31m\r\n\x9f", "a b [31m   "),
        ("\ud83d lone", "? lone"),
        (b"\x81\x8d", "  "),
        ("日本 µ", "日本 µ"),
    ],
)
def test_text_is_made_valid(came: str | bytes, clean: str) -> None:
    assert clean_text(came) == clean
    assert storable(clean_text(came))


class Driver:
    """Says what drivers say: undecoded bytes, control characters, and messages that are no UTF-8."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def labels(self) -> tuple[str, ...]:
        return ("Stage\x07", "25\udcb5m")

    def choose(self, label: str, count: int) -> int:
        self.asked.append(label)
        return count

    def fail(self) -> None:
        b"Fehler: 25\xb5m".decode("utf-8")


def test_a_driver_gets_back_the_very_name_that_it_gave() -> None:
    driver = Driver()
    core = TextCore(driver)
    assert core.labels() == ("Stage ", "25µm")
    assert core.choose("Stage ", 3) == 3
    assert driver.asked == ["Stage\x07"]
    with pytest.raises(MicroscopeError, match=r"25µm is not in UTF-8"):
        core.choose("25µm", 1)
    with pytest.raises(RuntimeError, match="Fehler: 25µm"):
        core.fail()
