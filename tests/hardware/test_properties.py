"""Properties and presets on the real core with the DemoCamera, and what may not be set."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from hardware.core_properties import checked_value, concerns_trigger
from hardware.limits import LimitedMicroscope
from hardware.micromanager import MicroManagerMicroscope
from hardware.microscope import CameraSettings, MicroscopeError, Roi, StageLimits
from hardware.properties import DeviceProperty, refusal_of
from hardware.simulated import SimulatedMicroscope
from tests.hardware.conftest import PlainDetector, PlainScene

OpenDemo = Callable[..., MicroManagerMicroscope]

RISKY = """\
Property,Core,Initialize,0
Device,DHub,DemoCamera,DHub
Device,Camera,DemoCamera,DCam
Device,Z,DemoCamera,DStage
Device,Wheel,DemoCamera,DWheel
Device,Output,DemoCamera,D-DA
Device,Piezo,Utilities,DA Z Stage
Device,Positions,Utilities,Stage State Device
Device,Lamp,Utilities,State Device Shutter
Property,Core,Initialize,1
Property,Camera,PixelType,16bit
Property,Piezo,DA Device,Output
Property,Positions,PhysicalStage,Z
Property,Core,Camera,Camera
Property,Core,Focus,Z
ConfigGroup,Risky,Up,Z,Position,250
ConfigGroup,Risky,Roles,Core,Focus,Z
ConfigGroup,Risky,Other,Core,Focus,Piezo
ConfigGroup,Risky,Colour,Camera,PixelType,32bitRGB
ConfigGroup,Risky,Gone,Laser 9,State,1
ConfigGroup,Channel,Up,Z,Position,250
"""


@pytest.fixture
def limited(open_demo: OpenDemo) -> LimitedMicroscope:
    return LimitedMicroscope(open_demo(), StageLimits(-50.0, 50.0, 50.0))


@pytest.fixture
def risky(open_demo: OpenDemo, tmp_path: Path) -> LimitedMicroscope:
    """Presets that must not be set, a stage behind an analog output, and a device that moves a stage."""
    config = tmp_path / "risky.cfg"
    config.write_text(RISKY, encoding="utf-8")
    return LimitedMicroscope(open_demo(config_file=config), StageLimits(-50.0, 50.0, 50.0))


def test_every_property_is_listed_with_its_rules(limited: LimitedMicroscope) -> None:
    found = {(each.device, each.name): each for each in limited.properties()}
    assert len(found) > 100
    gain = found["Camera", "Gain"]
    assert (gain.kind, gain.type, gain.limits, gain.value, gain.read_only) == (
        "camera",
        "integer",
        (-5.0, 8.0),
        "0",
        False,
    )
    assert found["Camera", "Mode"].allowed == (
        "Artificial Waves",
        "Color Test Pattern",
        "Fluorescent Beads",
        "Noise",
    )
    assert found["Camera", "CameraID"].read_only
    assert found["Camera", "MaximumExposureMs"].before_start
    assert [name for (_, name), each in found.items() if each.is_trigger] == ["TriggerDevice"]
    assert {each.device for each in limited.properties("Z")} == {"Z"}
    with pytest.raises(MicroscopeError, match="Device Q was asked for; the configuration has DHub, Camera"):
        limited.properties("Q")


def test_a_property_is_set_and_read_back(limited: LimitedMicroscope) -> None:
    assert limited.set_property("Camera", "Gain", "3").value == "3"
    assert limited.set_property("Camera", "BeadDensity", "20.0").value == "20"
    assert limited.set_property("Camera", "Mode", "Noise").value == "Noise"
    assert limited.read_property("Camera", "Mode").value == "Noise"


@pytest.mark.parametrize(
    ("device", "name", "value", "says"),
    [
        ("Camera", "Gain", "9", "asked to be 9; it may be -5 to 8"),
        ("Camera", "Gain", "1.5", "it is a whole number"),
        ("Camera", "Gain", "much", "it is a whole number"),
        ("Camera", "BeadSize", "nan", "it is a number"),
        ("Camera", "Mode", "Beads", "it may be Artificial Waves, Color"),
        ("Camera", "CameraID", "X", "it is read only"),
        ("Camera", "MaximumExposureMs", "5", "before the device is initialized"),
        ("Camera", "Modus", "X", "Camera has AllowMultiROI"),
        ("Lamp", "State", "1", "Device Lamp was asked for"),
        ("Z", "Position", "250", r"stage Z past its soft limits.*POST /api/v1/microscope/stage"),
        ("XY", "TransposeMirrorX", "1", "stage XY past its soft limits"),
        ("Autofocus", "Description", "X", "moves the focus drive by itself"),
        ("Core", "Focus", "", "the limits are those of others.*focus_drive"),
        ("Core", "Camera", "", "the limits are those of others"),
    ],
)
def test_what_may_not_be_set(limited: LimitedMicroscope, device: str, name: str, value: str, says: str) -> None:
    with pytest.raises(MicroscopeError, match=says) as refusal:
        limited.set_property(device, name, value)
    assert refusal.value.cause == "settings"
    assert limited.stage_um == pytest.approx(0.0)


@pytest.mark.parametrize(
    ("device", "name", "value", "stage"), [("Output", "Voltage", "5", "Piezo"), ("Positions", "State", "1", "Z")]
)
def test_a_device_that_moves_a_stage_is_refused_like_the_stage(
    risky: LimitedMicroscope, device: str, name: str, value: str, stage: str
) -> None:
    with pytest.raises(MicroscopeError, match=f"properties of {device} can move the stage {stage}"):
        risky.set_property(device, name, value)
    assert risky.read_property("Lamp", "State Device").of_stage is None
    assert risky.set_property("Lamp", "State Device", "Wheel").value == "Wheel"


def test_raw_commands_are_refused() -> None:
    for known in (
        DeviceProperty("Tiger", "hub", "SerialCommand", ""),
        DeviceProperty("COM3", "serial port", "Verbose", "0"),
    ):
        refusal = refusal_of(known)
        assert refusal is not None
        assert "passes commands to a controller" in refusal.reason


def test_a_preset_is_set_as_a_whole(limited: LimitedMicroscope) -> None:
    groups = {group.name: group for group in limited.preset_groups}
    assert groups["Channel"].presets == ("Cy5", "DAPI", "FITC", "Rhodamine")
    limited.apply_preset("Channel", "FITC")
    assert {group.name: group.current for group in limited.preset_groups}["Channel"] == "FITC"
    assert limited.light.channel == "FITC"
    assert limited.read_property("Excitation", "Label").value == "Chroma-HQ480"
    for group, preset, says in (
        ("Channels", "FITC", "group Channels was asked for; the configuration has Camera, Channel"),
        ("Channel", "Cy7", "the group Channel has Cy5, DAPI"),
    ):
        with pytest.raises(MicroscopeError, match=says):
            limited.apply_preset(group, preset)


def test_the_camera_is_described_as_a_preset_leaves_it(limited: LimitedMicroscope) -> None:
    limited.apply_camera(CameraSettings(0.005, Roi(16, 16, 64, 32)))
    limited.set_property("Camera", "Gain", "1")
    assert limited.camera_settings == CameraSettings(0.005, Roi(16, 16, 64, 32))
    limited.apply_preset("Camera", "LowRes")
    assert limited.camera_settings.binning == 4
    assert (limited.description.sensor_shape, limited.description.bit_depth) == ((512, 512), 8)
    assert limited.snap().pixels.shape == (128, 128)
    limited.apply_preset("Camera", "HighRes")
    assert (limited.description.bit_depth, limited.camera_settings.binning) == (12, 1)
    limited.set_property("Camera", "Exposure", "7")
    assert limited.camera_settings.exposure_s == pytest.approx(0.007)


def test_the_pixel_size_follows_the_objective(limited: LimitedMicroscope) -> None:
    before = limited.description.pixel_size_um
    limited.apply_preset("Objective", "40X")
    assert limited.description.pixel_size_um != before
    limited.apply_preset("Objective", "10X")
    assert limited.description.pixel_size_um == before


@pytest.mark.parametrize(
    ("preset", "says"),
    [
        ("Up", r"Property Position of Z \(preset Up of Risky\) was to be set, but properties of Z can move the stage"),
        ("Other", "which devices are used"),
        ("Colour", "frames are grey"),
        ("Gone", "Device Laser 9 was named in the preset"),
    ],
)
def test_a_preset_that_must_not_be_set_changes_nothing(risky: LimitedMicroscope, preset: str, says: str) -> None:
    with pytest.raises(MicroscopeError, match=says):
        risky.apply_preset("Risky", preset)
    assert risky.stage_um == pytest.approx(0.0)
    assert risky.description.focus_stage == "Z"
    assert risky.read_property("Camera", "PixelType").value == "16bit"
    assert risky.snap().pixels.shape == (512, 512)
    risky.apply_preset("Risky", "Roles")  # the drive that it names has the role already


def test_a_channel_that_moves_a_stage_is_refused(risky: LimitedMicroscope) -> None:
    with pytest.raises(MicroscopeError, match=r"Property Position of Z \(channel Up\)"):
        risky.set_light(channel="Up")
    assert risky.stage_um == pytest.approx(0.0)


def test_nothing_of_the_camera_is_set_while_it_exposes(limited: LimitedMicroscope) -> None:
    limited.start_sequence()
    for change in (
        lambda: limited.set_property("Camera", "Gain", "1"),
        lambda: limited.apply_preset("Camera", "LowRes"),
    ):
        with pytest.raises(MicroscopeError, match="while a sequence runs") as refusal:
            change()
        assert refusal.value.cause == "busy"
    limited.set_property("Emission", "Label", "Chroma-HQ700")
    limited.stop_sequence()


def test_a_trigger_is_a_setting_and_frames_go_on(open_demo: OpenDemo) -> None:
    limited = LimitedMicroscope(
        open_demo(properties={"Camera": {"TriggerDevice": "Objective"}}), StageLimits(-50.0, 50.0, 50.0)
    )
    assert limited.trigger == {"TriggerDevice": "Objective"}
    limited.start_sequence()
    assert [limited.next_frame(5.0).index for _ in range(3)] == [0, 1, 2]  # type: ignore[union-attr]
    limited.stop_sequence()
    limited.set_property("Camera", "TriggerDevice", "")
    assert limited.trigger == {"TriggerDevice": ""}


@pytest.mark.parametrize(
    ("name", "is_trigger"),
    [
        ("TriggerMode", True),
        ("TRIGGER SOURCE", True),
        ("OUTPUT TRIGGER KIND[0]", True),
        ("Strobe Delay", True),
        ("ExposeOutMode", True),
        ("ExternalTriggerMode", True),
        ("Exposure", False),
        ("ReadoutRate", False),
    ],
)
def test_signals_are_known_by_the_names_that_vendors_use(name: str, is_trigger: bool) -> None:
    assert concerns_trigger(name) is is_trigger


def test_a_value_that_is_not_kept_is_taken_back(limited: LimitedMicroscope, monkeypatch: pytest.MonkeyPatch) -> None:
    driver = limited.inner
    assert isinstance(driver, MicroManagerMicroscope)
    core = driver._core
    real = core.set_property
    written = []

    def stubborn(device: str, name: str, value: str) -> None:
        written.append(value)
        if len(written) > 1:
            real(device, name, value)

    monkeypatch.setitem(core.__dict__, "set_property", stubborn)
    with pytest.raises(MicroscopeError, match="asked to be 2, but the microscope reports 0") as refusal:
        limited.set_property("Camera", "Gain", "2")
    assert refusal.value.cause == "not_read_back"
    assert written == ["2", "0"]

    def broken(device: str, name: str, value: str) -> None:
        raise RuntimeError("no answer")

    monkeypatch.setitem(core.__dict__, "set_property", broken)
    with pytest.raises(MicroscopeError, match=r"no answer\. Not everything was put back: .* to 0: no answer"):
        limited.set_property("Camera", "Gain", "2")


def test_values_are_compared_as_numbers_and_written_as_the_device_does() -> None:
    known = DeviceProperty("C", "camera", "Depth", "8", "integer", None, ("8", "16"))
    assert checked_value(known, "16.0") == "16"
    assert checked_value(DeviceProperty("C", "camera", "N", "1", "integer"), "3.0") == "3"
    assert checked_value(DeviceProperty("C", "camera", "T", ""), "a\nb") == "a b"


def test_a_microscope_without_devices_has_none(scene: PlainScene, detector: PlainDetector) -> None:
    limited = LimitedMicroscope(SimulatedMicroscope(scene, detector), StageLimits(-50.0, 50.0, 50.0))
    assert limited.properties() == ()
    assert limited.preset_groups == ()
    assert limited.trigger == {}
    for request in (
        lambda: limited.properties("Camera"),
        lambda: limited.set_property("Camera", "Gain", "1"),
        lambda: limited.apply_preset("Channel", "FITC"),
    ):
        with pytest.raises(MicroscopeError, match="the simulated microscope has no properties and presets"):
            request()
