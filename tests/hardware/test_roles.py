"""Roles, directions and continuous focus of Micro-Manager's configuration, on the real core with the DemoCamera."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from hardware.limits import LimitedMicroscope
from hardware.micromanager import MicroManagerMicroscope
from hardware.microscope import MicroscopeError, StageLimits

OpenDemo = Callable[..., MicroManagerMicroscope]

DEVICES = """\
Property,Core,Initialize,0
Device,DHub,DemoCamera,DHub
Device,Camera,DemoCamera,DCam
Device,Spare,DemoCamera,DCam
Device,Z,DemoCamera,DStage
Device,Piezo,DemoCamera,DStage
Device,XY,DemoCamera,DXYStage
Device,Rough,DemoCamera,DXYStage
Device,Lamp,DemoCamera,DShutter
Device,Laser,DemoCamera,DShutter
Device,Autofocus,DemoCamera,DAutoFocus
Device,Other focus,DemoCamera,DAutoFocus
Device,Wheel,DemoCamera,DWheel
Property,Core,Initialize,1
"""
ROLES = "Property,Core,Camera,Camera\nProperty,Core,Focus,Piezo\nProperty,Core,Shutter,Lamp\nProperty,Core,XYStage,XY\n"


@pytest.fixture
def open_with(open_demo: OpenDemo, tmp_path: Path) -> Callable[..., MicroManagerMicroscope]:
    def open_it(more: str = "", roles: str = ROLES, **core: str) -> MicroManagerMicroscope:
        config = tmp_path / "two.cfg"
        config.write_text(DEVICES + roles + more, encoding="utf-8")
        return open_demo(config_file=config, properties={"Core": core} if core else {})

    return open_it


def limited(microscope: MicroManagerMicroscope) -> LimitedMicroscope:
    return LimitedMicroscope(microscope, StageLimits(-50.0, 50.0, 50.0))


def test_the_drive_that_the_settings_name_moves(open_with: OpenDemo) -> None:
    microscope = open_with(Focus="Z")
    assert microscope.description.focus_stage == "Z"
    limited(microscope).move_stage(7.0)
    assert microscope._core.get_position("Z") == pytest.approx(7.0)
    assert microscope._core.get_position("Piezo") == pytest.approx(0.0)


def test_the_drive_of_the_configuration_moves_when_the_settings_name_none(open_with: OpenDemo) -> None:
    microscope = open_with()
    assert microscope.description.focus_stage == "Piezo"
    limited(microscope).move_stage(7.0)
    assert microscope._core.get_position("Piezo") == pytest.approx(7.0)


def test_every_role_of_the_settings_is_in_force_before_it_is_read(open_with: OpenDemo) -> None:
    microscope = open_with(Camera="Spare", Shutter="Laser", XYStage="Rough", AutoShutter="0")
    core = microscope._core
    assert microscope.description.camera == "Spare"
    assert (core.get_camera_device(), core.get_shutter_device(), core.get_xy_stage_device()) == (
        "Spare",
        "Laser",
        "Rough",
    )
    assert microscope.light.automatic is False
    microscope.set_light(shutter_open=True)
    assert core.get_property("Laser", "State") == "1"
    assert core.get_property("Lamp", "State") == "0"
    assert microscope.snap().pixels.shape == (512, 512)


def test_a_role_for_no_such_device_is_refused(open_with: OpenDemo) -> None:
    with pytest.raises(MicroscopeError, match="Property Focus of Core was asked to be XY; it may be"):
        open_with(Focus="XY")


def test_drives_without_the_role_are_named(open_with: OpenDemo) -> None:
    microscope = open_with(roles="Property,Core,Camera,Camera\n")
    assert microscope.description.focus_stage is None
    with pytest.raises(MicroscopeError, match=r"Core-Focus \(there are Z, Piezo\)"):
        _ = microscope.stage_um
    with pytest.raises(MicroscopeError, match=r"role Core-Focus \(there are Z, Piezo\)"):
        limited(microscope).move_stage(1.0)


def test_another_drive_is_chosen_with_its_own_limits(open_with: OpenDemo) -> None:
    driver = open_with("FocusDirection,Z,-1\nFocusDirection,Piezo,1\nConfigGroup,Channel,Red,Wheel,State,2\n")
    piezo, z = StageLimits(-50.0, 50.0, 50.0), StageLimits(0.0, 20.0, 5.0)
    microscope = LimitedMicroscope(driver, piezo, further_limits={"Z": z})
    assert microscope.focus_drives == {"Z": z, "Piezo": piezo}
    microscope.choose_focus_drive("Z")
    description = microscope.description
    assert (description.focus_stage, description.focus_direction, microscope.stage_limits) == ("Z", -1, z)
    with pytest.raises(MicroscopeError, match="soft limits are 0 to 20"):
        microscope.move_stage(25.0)
    assert microscope.move_stage(4.0) == pytest.approx(4.0)
    assert microscope.snap().stage_um == pytest.approx(4.0)
    assert driver._core.get_position("Piezo") == pytest.approx(0.0)
    assert microscope.set_light(channel="Red").channel == "Red"  # the role stays
    assert microscope.stop()
    microscope.choose_focus_drive("Piezo")
    assert (microscope.stage_limits, microscope.description.focus_direction) == (piezo, 1)
    assert microscope.move_stage(40.0) == pytest.approx(40.0)
    with pytest.raises(MicroscopeError, match="focus drive XY was asked for; the configuration has Z, Piezo"):
        microscope.choose_focus_drive("XY")


def test_a_drive_without_limits_is_not_chosen(open_with: OpenDemo) -> None:
    driver = open_with()
    microscope = limited(driver)
    with pytest.raises(MicroscopeError, match=r'no soft limits\. Set low_um.*focus_drives\."Z"'):
        microscope.choose_focus_drive("Z")
    assert driver._core.get_focus_device() == "Piezo"
    limits = StageLimits(0.0, 1.0, 1.0)
    for label, says in (("Piezo", "its limits are stage_low_um"), ("Y", "there are Z, Piezo")):
        with pytest.raises(MicroscopeError, match=says):
            LimitedMicroscope(driver, limits, further_limits={label: limits})


@pytest.mark.parametrize("direction", [-1, 0, 1])
def test_the_direction_of_the_drive_in_use_is_described(open_with: OpenDemo, direction: int) -> None:
    microscope = open_with(f"FocusDirection,Z,{direction}\nFocusDirection,Piezo,1\n", Focus="Z")
    assert microscope.description.focus_direction == direction


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("Core,Focus,Z", "makes Camera the camera and Z the focus drive"),
        ("Core,Camera,Spare", "makes Spare the camera and Piezo the focus drive"),
    ],
)
def test_a_channel_that_changes_the_roles_is_refused(open_with: OpenDemo, setting: str, said: str) -> None:
    microscope = open_with(f"ConfigGroup,Channel,Red,{setting}\nConfigGroup,Channel,Red,Wheel,State,2\n")
    with pytest.raises(MicroscopeError, match=said) as refusal:
        microscope.set_light(channel="Red")
    assert refusal.value.cause == "settings"
    assert microscope._core.get_focus_device() == "Piezo"
    assert microscope._core.get_camera_device() == "Camera"


def test_a_channel_may_change_the_shutter(open_with: OpenDemo) -> None:
    microscope = open_with("ConfigGroup,Channel,Red,Core,Shutter,Laser\n")
    assert microscope.set_light(channel="Red", shutter_open=True).shutter_open is True
    assert microscope._core.get_property("Laser", "State") == "1"


def test_nothing_is_moved_while_continuous_focus_is_on(open_with: OpenDemo) -> None:
    microscope = open_with("Property,Core,AutoFocus,Autofocus\n")
    assert microscope.continuous_focus is False
    microscope.set_continuous_focus(True)
    assert microscope.continuous_focus is True
    with pytest.raises(MicroscopeError, match="while continuous focus is on") as refusal:
        limited(microscope).move_stage(3.0)
    assert refusal.value.cause == "continuous_focus"
    assert microscope.stage_um == pytest.approx(0.0)
    microscope.set_continuous_focus(False)
    assert limited(microscope).move_stage(3.0) == pytest.approx(3.0)


def test_an_autofocus_device_without_the_role_counts_too(open_with: OpenDemo) -> None:
    microscope = open_with(AutoFocus="Autofocus")
    core = microscope._core
    core.set_auto_focus_device("Other focus")
    core.enable_continuous_focus(True)
    core.set_auto_focus_device("Autofocus")
    assert core.is_continuous_focus_enabled() is False
    assert microscope.continuous_focus is True
    with pytest.raises(MicroscopeError, match="while continuous focus is on"):
        limited(microscope).move_stage(3.0)
    microscope.set_continuous_focus(False)
    assert microscope.continuous_focus is False
    microscope.set_continuous_focus(True)
    assert core.get_auto_focus_device() == "Autofocus"
    assert core.is_continuous_focus_enabled() is False
    core.set_auto_focus_device("Other focus")
    assert core.is_continuous_focus_enabled() is True


def test_without_an_autofocus_device_there_is_no_continuous_focus(open_with: OpenDemo) -> None:
    microscope = open_with(AutoFocus="")
    microscope.set_continuous_focus(False)
    with pytest.raises(MicroscopeError, match="no device has the role Core-AutoFocus"):
        microscope.set_continuous_focus(True)
