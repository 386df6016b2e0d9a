"""Against the real core and the real DemoCamera."""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hardware import core_session, core_values
from hardware.limits import LimitedMicroscope
from hardware.micromanager import MicroManagerMicroscope
from hardware.micromanager_settings import MicroManagerSettings
from hardware.microscope import CameraSettings, Frame, Microscope, MicroscopeError, Roi, StageLimits

OpenDemo = Callable[..., MicroManagerMicroscope]

BEADS = {"Camera": {"Mode": "Fluorescent Beads", "PixelType": "16bit", "BeadDensity": "10"}}


def test_devices_are_listed(open_demo: OpenDemo) -> None:
    microscope = open_demo(properties=BEADS)
    description = microscope.description
    assert isinstance(microscope, Microscope)
    assert (description.camera, description.focus_stage) == ("Camera", "Z")
    assert (description.sensor_shape, description.bit_depth, description.pixel_size_um) == ((512, 512), 16, 1.0)
    assert description.devices["Z"] == "focus drive"
    assert description.devices["White Light Shutter"] == "shutter"
    assert microscope.camera_settings == CameraSettings(0.01)


def test_settings_are_read_back(open_demo: OpenDemo) -> None:
    microscope = open_demo()
    asked = CameraSettings(0.003, Roi(16, 32, 128, 64), 2)
    assert microscope.apply_camera(asked) == asked
    assert microscope.snap().pixels.shape == (64, 128)
    assert microscope.apply_camera(CameraSettings(0.003, Roi(0, 0, 512, 512))) == CameraSettings(0.003)


@pytest.mark.parametrize(("exposure_s", "shown"), [(20.0, "20 s"), (-0.001, "-0.001 s")])
def test_an_exposure_that_the_core_ignores_in_silence_is_reported(
    open_demo: OpenDemo, exposure_s: float, shown: str
) -> None:
    microscope = open_demo()
    with pytest.raises(MicroscopeError) as refusal:
        microscope.apply_camera(CameraSettings(exposure_s))
    assert refusal.value.cause == "not_read_back"
    assert shown in refusal.value.problem
    assert "reports 0.01 s" in refusal.value.problem


def test_camera_settings_that_do_not_fit_the_sensor(open_demo: OpenDemo) -> None:
    microscope = open_demo()
    with pytest.raises(MicroscopeError, match="at binning 2 the sensor has 256 x 256 pixels"):
        microscope.apply_camera(CameraSettings(0.01, Roi(200, 0, 100, 100), 2))
    with pytest.raises(MicroscopeError, match="binning was asked to be 3; Camera has 1, 2, 4, 8"):
        microscope.apply_camera(CameraSettings(0.01, binning=3))


def test_beads_get_wider_with_the_stage(open_demo: OpenDemo) -> None:
    microscope = open_demo(properties=BEADS)
    microscope.apply_camera(CameraSettings(0.001))
    microscope.move_stage(0.0)  # the camera remembers where another core of this process left the stage
    in_focus = microscope.snap()
    microscope.move_stage(20.0)
    defocused = microscope.snap()
    assert in_focus.pixels.dtype == np.uint16
    assert defocused.stage_um == 20.0
    assert in_focus.pixels.max() > 2 * defocused.pixels.max()


def test_counts_of_8_bits_are_widened(open_demo: OpenDemo) -> None:
    microscope = open_demo(properties={"Camera": {"PixelType": "8bit"}})
    frame = microscope.snap()
    assert microscope.description.bit_depth == 8
    assert frame.pixels.dtype == np.uint16
    assert 0 < frame.pixels.max() < 256


@pytest.mark.parametrize(
    ("properties", "message"),
    [
        ({"Cam": {"Mode": "Noise"}}, "Device Cam was named in the settings; the configuration has DHub, Camera"),
        ({"Camera": {"Modus": "Noise"}}, "Property Modus of Camera was named in the settings; Camera has "),
        ({"Camera": {"Mode": "Beads"}}, "Property Mode of Camera was asked to be Beads; it may be "),
        ({"Camera": {"PixelType": "32bitRGB"}}, "4 components in 4 bytes a pixel"),
        ({"Camera": {"Gain": "1000"}}, "could not set property Gain of Camera to 1000"),
    ],
)
def test_properties_that_cannot_be_set(
    open_demo: OpenDemo, properties: dict[str, dict[str, str]], message: str
) -> None:
    with pytest.raises(MicroscopeError, match=message):
        open_demo(properties=properties)
    # Nothing is left open by the failure.
    open_demo()


def test_a_property_that_is_not_kept_is_reported(open_demo: OpenDemo) -> None:
    with pytest.raises(MicroscopeError) as refusal:
        open_demo(properties={"Camera": {"BitDepth": "16", "PixelType": "8bit", "CCDTemperature RO": "5"}})
    assert refusal.value.cause in ("not_read_back", "device")
    assert "CCDTemperature RO" in refusal.value.problem


def test_time_outs_are_per_device(open_demo: OpenDemo) -> None:
    microscope = open_demo(device_timeout_s={"Z": 1.5})
    assert microscope._core.get_device_timeout_ms("Z") == 1500
    assert microscope._core.get_device_timeout_ms("XY") == 5000
    microscope.close()
    with pytest.raises(MicroscopeError, match="Device Y was named"):
        open_demo(device_timeout_s={"Y": 1.0})


def test_a_sequence_keeps_its_image_numbers(open_demo: OpenDemo) -> None:
    microscope = open_demo(properties=BEADS)
    microscope.apply_camera(CameraSettings(0.002, Roi(0, 0, 256, 256)))
    for _ in range(2):
        microscope.start_sequence()
        frames = [microscope.next_frame(5.0) for _ in range(100)]
        microscope.stop_sequence()
        while frame := microscope.next_frame(0.0):
            frames.append(frame)
        assert [frame.index for frame in frames] == list(range(len(frames)))
        assert all(frame.pixels.shape == (256, 256) and frame.pixels.dtype == np.uint16 for frame in frames)
        assert {frame.time_source for frame in frames} == {"software"}
        times = [frame.time_s for frame in frames]
        assert times == sorted(times)
        assert times[-1] < time.monotonic()
        assert not microscope.is_running


def test_a_frame_that_waited_keeps_the_time_of_its_exposure(open_demo: OpenDemo) -> None:
    microscope = open_demo()
    microscope.apply_camera(CameraSettings(0.01, Roi(0, 0, 64, 64)))
    microscope.start_sequence()
    deadline_s = time.monotonic() + 20
    while microscope._core.get_remaining_image_count() < 21:
        assert time.monotonic() < deadline_s
        time.sleep(0.005)
    fetched_s = time.monotonic()
    first = microscope.next_frame(5.0)
    microscope.stop()
    # 20 exposures of 10 ms came after the first one, whose middle was half an exposure before its arrival.
    assert first.index == 0
    assert fetched_s - first.time_s > 0.2


def test_frames_lost_in_an_overflow_are_a_gap_in_the_index(open_demo: OpenDemo) -> None:
    microscope = open_demo(buffer_mb=16)
    microscope.apply_camera(CameraSettings(0.002))
    microscope.start_sequence()
    indices = [microscope.next_frame(5.0).index]
    # 16 MB hold 32 frames; the core drops all of them, without a word, whenever they are full.
    while len(indices) == indices[-1] + 1:
        time.sleep(0.2)
        indices.append(microscope.next_frame(5.0).index)
        assert len(indices) < 200
    microscope.stop_sequence()
    assert indices[0] == 0
    assert indices == sorted(set(indices))


def test_a_running_sequence_forbids_snap_settings_and_a_second_one(open_demo: OpenDemo) -> None:
    microscope = open_demo()
    microscope.start_sequence()
    for forbidden in (
        microscope.snap,
        microscope.start_sequence,
        lambda: microscope.apply_camera(CameraSettings(0.01)),
    ):
        with pytest.raises(MicroscopeError) as refusal:
            forbidden()
        assert refusal.value.cause == "busy"
    assert microscope.stop()
    assert not microscope.is_running


def test_stop_from_another_thread_wakes_a_waiting_reader(open_demo: OpenDemo) -> None:
    microscope = open_demo()
    microscope.apply_camera(CameraSettings(0.2))
    microscope.start_sequence()
    got: list[Frame | None] = []

    def read() -> None:
        while (frame := microscope.next_frame(60.0)) is not None:
            got.append(frame)
        got.append(None)

    reader = threading.Thread(target=read)
    reader.start()
    assert microscope.stop()
    reader.join(20)
    assert got[-1] is None
    assert not microscope.is_running


def test_a_process_that_ends_without_closing_ends(demo_installation: tuple[Path, Path]) -> None:
    code = (
        "from pathlib import Path\n"
        "from hardware.micromanager import MicroManagerMicroscope\n"
        "from hardware.micromanager_settings import MicroManagerSettings\n"
        f"microscope = MicroManagerMicroscope(MicroManagerSettings(config_file=Path({str(demo_installation[1])!r})))\n"
        "microscope.start_sequence()\n"
        "print(microscope.next_frame(5.0).index)\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert result.stdout.strip() == "0"
    assert result.returncode == 0, result.stderr


def test_a_camera_that_gives_no_frame_is_reported(open_demo: OpenDemo) -> None:
    microscope = open_demo(frame_timeout_s=0.1)
    microscope.apply_camera(CameraSettings(0.01))
    # The camera gets a longer exposure without the driver, so it gives no frame for 2 s.
    microscope._core.set_exposure(2000)
    with pytest.raises(MicroscopeError, match=r"Camera gave no frame for 0\.1 s at an exposure of 0\.01 s"):
        microscope.snap()
    with pytest.raises(MicroscopeError, match="the last exposure has not ended"):
        microscope.snap()
    microscope._camera._snapping.join()
    microscope.start_sequence()
    assert microscope.next_frame(0.01) is None
    with pytest.raises(MicroscopeError) as refusal:
        microscope.next_frame(5.0)
    assert refusal.value.cause == "no_frame"


def test_the_drive_refuses_what_lies_beyond_its_hard_limit(open_demo: OpenDemo) -> None:
    microscope = LimitedMicroscope(open_demo(), StageLimits(-1000.0, 1000.0, 1000.0))
    assert microscope.move_stage(299.0) == 299.0
    with pytest.raises(MicroscopeError, match=r"could not move Z to 301 µm: .*Position out of range"):
        microscope.move_stage(301.0)
    assert microscope.stage_um == 299.0
    with pytest.raises(MicroscopeError, match="soft limits"):
        microscope.move_stage(1001.0)


def test_a_position_that_is_not_reached_is_reported(open_demo: OpenDemo, monkeypatch: pytest.MonkeyPatch) -> None:
    microscope = open_demo(stage_tolerance_um=0.1, device_timeout_s={"Z": 0.05})
    move = microscope._core.set_position
    monkeypatch.setattr(
        microscope._core, "set_position", lambda stage, target: move(stage, target - 0.2), raising=False
    )
    with pytest.raises(MicroscopeError) as refusal:
        microscope.move_stage(5.0)
    assert refusal.value.cause == "not_arrived"
    assert "sent to 5 µm and reports 4.8 µm; the tolerance is 0.1 µm" in refusal.value.problem


def test_the_light(open_demo: OpenDemo) -> None:
    microscope = open_demo()
    assert microscope.light.channels == ("Cy5", "DAPI", "FITC", "Rhodamine")
    state = microscope.set_light(shutter_open=True, channel="FITC")
    assert (state.shutter_open, state.channel) == (True, "FITC")
    assert microscope.snap().pixels.max() > 0
    assert microscope.light.shutter_open
    assert microscope.set_light(shutter_open=False).shutter_open is False
    with pytest.raises(MicroscopeError, match="Channel GFP was asked for; the group Channel has Cy5, DAPI"):
        microscope.set_light(channel="GFP")


def test_a_configuration_without_channels_stage_and_shutter(open_demo: OpenDemo, tmp_path: Path) -> None:
    config = tmp_path / "camera_only.cfg"
    config.write_text("Device,Eye,DemoCamera,DCam\nProperty,Core,Initialize,1\nProperty,Core,Camera,Eye\n")
    microscope = open_demo(config_file=config)
    assert microscope.description.focus_stage is None
    assert (microscope.light.shutter_open, microscope.light.channels) == (None, ())
    assert microscope.snap().pixels.shape == (512, 512)
    with pytest.raises(MicroscopeError, match="no shutter"):
        microscope.set_light(shutter_open=True)
    with pytest.raises(MicroscopeError, match="the group Channel has no presets"):
        microscope.set_light(channel="FITC")
    with pytest.raises(MicroscopeError, match=r"no device has the role Core-Focus \(there are none\)"):
        microscope.move_stage(1.0)
    with pytest.raises(MicroscopeError, match="has no focus drive"):
        LimitedMicroscope(microscope, StageLimits(0, 1, 1)).move_stage(1.0)
    assert microscope.stop()


def test_a_configuration_without_camera(open_demo: OpenDemo, tmp_path: Path) -> None:
    config = tmp_path / "stage_only.cfg"
    config.write_text("Device,Drive,DemoCamera,DStage\nProperty,Core,Initialize,1\nProperty,Core,Focus,Drive\n")
    with pytest.raises(MicroscopeError, match="No device has the role Core-Camera; the devices are Drive, Core"):
        open_demo(config_file=config)


def test_it_restarts_in_one_process(open_demo: OpenDemo) -> None:
    from pycromanager.acquisition.acq_eng_py.internal.engine import Engine

    for _ in range(2):
        microscope = open_demo()
        assert Engine.singleton.core is microscope._core._core
        assert microscope.snap().pixels.shape == (512, 512)
        with pytest.raises(MicroscopeError, match="runs in this process already"):
            open_demo()
        microscope.start_sequence()
        microscope.close()
        microscope.close()
        assert not microscope.is_running
        assert microscope.stop()
    with pytest.raises(MicroscopeError, match="has been closed"):
        microscope.snap()


@pytest.mark.parametrize(
    ("method", "stand_in", "asked", "message"),
    [
        # Many cameras round a region to multiples of their own; the DemoCamera takes any.
        (
            "set_roi",
            lambda core, true: lambda x, y, width, height: true(x, y, width // 8 * 8, height),
            lambda microscope: microscope.apply_camera(CameraSettings(0.01, Roi(0, 0, 100, 64))),
            r"region of interest was asked to be 100 x 64 pixels at \(0, 0\), but the microscope reports 96 x 64",
        ),
        (
            "set_property",
            lambda core, true: lambda *_: None,
            lambda microscope: microscope.apply_camera(CameraSettings(0.01, None, 2)),
            r"binning was asked to be 2, but the microscope reports 1",
        ),
        (
            "set_config",
            lambda core, true: lambda group, preset: true(group, "DAPI"),
            lambda microscope: microscope.set_light(channel="FITC"),
            r"channel was asked to be FITC, but the microscope reports DAPI",
        ),
        (
            "set_shutter_open",
            lambda core, true: lambda is_open: true(False),
            lambda microscope: microscope.set_light(shutter_open=True),
            r"shutter was asked to be open, but the microscope reports closed",
        ),
    ],
)
def test_devices_that_do_not_keep_what_is_set(
    open_demo: OpenDemo, monkeypatch: pytest.MonkeyPatch, method: str, stand_in: Any, asked: Any, message: str
) -> None:
    microscope = open_demo()
    core = microscope._core
    monkeypatch.setattr(core, method, stand_in(core, getattr(core, method)), raising=False)
    with pytest.raises(MicroscopeError, match=message) as refusal:
        asked(microscope)
    assert refusal.value.cause == "not_read_back"


def test_a_halt_is_reported_only_when_it_is_confirmed(open_demo: OpenDemo, monkeypatch: pytest.MonkeyPatch) -> None:
    microscope = open_demo()
    core = microscope._core

    def refuse(*_: object) -> None:
        raise RuntimeError("device does not respond")

    with monkeypatch.context() as drive_without_stop:
        # A drive that cannot be stopped but stands is a confirmed halt, one that moves or keeps silent is not.
        drive_without_stop.setattr(core, "stop", refuse, raising=False)
        assert microscope.stop()
        drive_without_stop.setattr(core, "device_busy", lambda _: True, raising=False)
        assert not microscope.stop()
        drive_without_stop.setattr(core, "device_busy", refuse, raising=False)
        assert not microscope.stop()
    with monkeypatch.context() as camera_without_reply:
        camera_without_reply.setattr(core, "is_sequence_running", refuse, raising=False)
        assert not microscope.stop()
        with pytest.raises(MicroscopeError, match="could not ask whether a sequence runs: device does not respond"):
            _ = microscope.is_running


def test_a_camera_that_fails_or_changes_its_format(open_demo: OpenDemo, monkeypatch: pytest.MonkeyPatch) -> None:
    microscope = open_demo()
    core = microscope._core
    core.set_property("Camera", "PixelType", "32bit")
    with pytest.raises(MicroscopeError, match="pixels of 32 bits"):
        microscope.snap()
    monkeypatch.setattr(core, "snap_image", lambda: core.set_property("Camera", "Gain", "1000"), raising=False)
    with pytest.raises(MicroscopeError, match="could not take a single frame"):
        microscope.snap()


def test_a_buffer_that_was_emptied_between_look_and_pop(open_demo: OpenDemo) -> None:
    microscope = open_demo()
    assert microscope._camera._pop(microscope._core) is None
    assert microscope.next_frame(1.0) is None


def test_an_arrival_that_cannot_be_known_is_now() -> None:
    clock = core_values.ArrivalClock()
    now_s = time.monotonic()
    assert clock.arrival_s("") >= now_s
    assert clock.arrival_s("2026-01-01T00:00:00+00:00") >= now_s  # with a time zone: not the core's own stamp
    # An hour off is a stamp in another time zone, not a frame that waited.
    assert clock.arrival_s(str(datetime.now() - timedelta(hours=1))) >= now_s


class SetClocks:
    """A wall clock that can be set, and the monotonic one that goes with it."""

    def __init__(self) -> None:
        self.monotonic_s = 100.0
        self.jumped_s = 0.0

    def monotonic(self) -> float:
        return self.monotonic_s

    def now(self) -> datetime:
        return datetime(2026, 10, 25, 2, 59, 50) + timedelta(seconds=self.monotonic_s + self.jumped_s)

    fromisoformat = staticmethod(datetime.fromisoformat)


@pytest.mark.parametrize("jump_s", [3600.0, -3600.0, 30.0, -30.0, 0.3, -0.3])
def test_frames_keep_their_times_when_the_wall_clock_is_set(monkeypatch: pytest.MonkeyPatch, jump_s: float) -> None:
    clocks = SetClocks()
    monkeypatch.setattr(core_values, "time", clocks)
    monkeypatch.setattr(core_values, "datetime", clocks)
    clock = core_values.ArrivalClock()
    # A frame every 10 ms; the reader is half a second behind when the clock jumps, then catches up.
    stamps, arrivals, read = [], [], []
    for frame in range(200):
        clocks.monotonic_s += 0.01
        stamps.append((str(clocks.now()), clocks.monotonic_s))
        if frame == 100:
            clocks.jumped_s += jump_s
        behind = 50 if 40 < frame < 120 else 0
        while len(stamps) > behind:
            stamp, truth_s = stamps.pop(0)
            arrivals.append(truth_s)
            read.append(clock.arrival_s(stamp))
    assert len(read) == 200
    np.testing.assert_allclose(read, arrivals, atol=1e-4)  # microseconds of the stamps


def test_closing_shuts_the_light(open_demo: OpenDemo, monkeypatch: pytest.MonkeyPatch) -> None:
    microscope = open_demo()
    microscope.set_light(shutter_open=True)
    core, states = microscope._core, []
    unload = core_session.stop_core
    monkeypatch.setattr("hardware.micromanager.stop_core", lambda: (states.append(core.get_shutter_open()), unload()))
    microscope.close()
    assert states == [False]


@pytest.mark.skipif(
    platform.machine() != "x86_64" or sys.platform != "linux",
    reason="edits the machine code of an x86-64 Linux library",
)
def test_adapters_of_another_device_interface(demo_installation: tuple[Path, Path], tmp_path: Path) -> None:
    folder = tmp_path / "adapters"
    shutil.copytree(demo_installation[0], folder)
    library = next(folder.glob("libmmgr_dal_DemoCamera*"))
    # GetDeviceInterfaceVersion is "mov eax, 75; ret".
    code = library.read_bytes()
    assert code.count(b"\xb8\x4b\0\0\0\xc3") == 1
    library.write_bytes(code.replace(b"\xb8\x4b\0\0\0\xc3", b"\xb8\x47\0\0\0\xc3"))
    with pytest.raises(MicroscopeError) as refusal:
        MicroManagerMicroscope(MicroManagerSettings(config_file=folder / "MMConfig_demo.cfg"))
    assert refusal.value.cause == "device_interface"
    assert "device interface 71, the installed pymmcore has 75" in refusal.value.problem
    assert "pip install pymmcore==11.2.1.71.0" in refusal.value.remedy


def test_an_unknown_interface_names_the_pattern_of_versions() -> None:
    error = core_session._explain_loading("(MMCore requires 75; device adapter has 99)", Path("a"), Path("b"))
    assert "*.*.*.99.*" in error.remedy


def test_configurations_that_cannot_be_loaded(open_demo: OpenDemo, tmp_path: Path) -> None:
    with pytest.raises(MicroscopeError, match=r"nothing.cfg does not exist"):
        open_demo(config_file=tmp_path / "nothing.cfg")
    with pytest.raises(MicroscopeError, match="No hardware configuration was given"):
        open_demo(config_file=None)
    wrong = tmp_path / "wrong.cfg"
    wrong.write_text("Device,Camera,NoSuchCompany,Cam\n")
    with pytest.raises(MicroscopeError, match="holds no device adapters"):
        open_demo(app_path=tmp_path, config_file=wrong)
    with pytest.raises(MicroscopeError, match=r'could not be loaded: Line 1.*"NoSuchCompany"'):
        open_demo(config_file=wrong)
    # A relative name is looked up in the installation.
    assert open_demo(config_file=Path("MMConfig_demo.cfg")).description.camera == "Camera"


def test_the_xy_stage_moves_and_reads_back(open_demo: Callable[..., MicroManagerMicroscope]) -> None:
    microscope = open_demo()
    assert microscope.description.xy_stage == "XY"
    # The demo stage has steps of 15 nm.
    assert microscope.move_xy(12.0, -7.0) == pytest.approx((12.0, -7.0), abs=0.02)
    assert microscope.xy_um == pytest.approx((12.0, -7.0), abs=0.02)
    before = microscope.snap().pixels
    microscope.move_xy(40.0, -7.0)
    assert (microscope.snap().pixels != before).any()
    assert microscope.stop()


def test_a_configuration_without_an_xy_stage_says_so(
    open_demo: Callable[..., MicroManagerMicroscope], tmp_path: Path, demo_installation: tuple[Path, Path]
) -> None:
    lines = demo_installation[1].read_text(encoding="utf-8").splitlines()
    path = tmp_path / "no_xy.cfg"
    path.write_text("\n".join(line for line in lines if not line.startswith(("Device,XY", "Parent,XY"))))
    microscope = open_demo(config_file=path)
    assert microscope.description.xy_stage is None
    with pytest.raises(MicroscopeError, match="no device has the role Core-XYStage"):
        microscope.move_xy(0.0, 0.0)


def test_stages_move_while_frames_are_fetched(open_demo: Callable[..., MicroManagerMicroscope]) -> None:
    microscope = open_demo()
    microscope.apply_camera(CameraSettings(0.005))
    indices: list[int] = []
    fetched = threading.Event()

    def fetch() -> None:
        while len(indices) < 60:
            frame = microscope.next_frame(5.0)
            assert frame is not None
            indices.append(frame.index)
        fetched.set()

    microscope.start_sequence()
    grabbing = threading.Thread(target=fetch)
    grabbing.start()
    moves = 0
    while not fetched.is_set() and grabbing.is_alive():
        moves += 1
        assert microscope.move_stage(moves % 5) == pytest.approx(moves % 5)
        assert microscope.move_xy(moves % 7, 1.0) == pytest.approx((moves % 7, 1.0), abs=0.02)
    grabbing.join(30)
    microscope.stop_sequence()
    assert indices == list(range(60))
    assert moves > 1
