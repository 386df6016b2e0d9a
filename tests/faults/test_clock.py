"""The wall clock is set by hours while the real core's frames are tracked and recorded.

The clock of the machine stays as it is: a small library, loaded before the C library in the service's processes
only, adds an offset to what it tells. So Python and the Micro-Manager core see the same jump at the same moment.
"""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import missing, need
from tests.faults.running_service import demo_configuration, demo_microscope, running, settings_for, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="LD_PRELOAD is of Linux")]

SHIFTED_CLOCK = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>

static long long seconds(void) {
    static volatile long long *shared = 0;
    if (!shared) {
        const char *path = getenv("SHIFTED_CLOCK_FILE");
        int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
        void *mapped = file < 0 ? MAP_FAILED : mmap(0, 8, PROT_READ, MAP_SHARED, file, 0);
        if (mapped == MAP_FAILED) return 0;
        shared = mapped;
    }
    return *shared;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *) = 0;
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int failed = real(clock, now);
    if (!failed && clock == CLOCK_REALTIME) now->tv_sec += seconds();
    return failed;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec exact;
    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &exact)) return -1;
    now->tv_sec = exact.tv_sec;
    now->tv_usec = exact.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *out) {
    struct timespec exact;
    clock_gettime(CLOCK_REALTIME, &exact);
    if (out) *out = exact.tv_sec;
    return exact.tv_sec;
}
"""


def test_times_tracks_and_watchdogs_do_not_follow_the_wall_clock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiler = shutil.which("cc")
    if compiler is None:
        missing("there is no C compiler to make a clock that can be set", in_ci=False)
    need("mm_test_adapters")
    source, library, shift = (tmp_path / name for name in ("clock.c", "clock.so", "shift"))
    source.write_text(SHIFTED_CLOCK)
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)

    def set_clock(seconds: int) -> None:
        with shift.open("r+b") as file:
            file.write(struct.pack("q", seconds))

    shift.write_bytes(struct.pack("q", 0))
    monkeypatch.setenv("LD_PRELOAD", str(library))
    monkeypatch.setenv("SHIFTED_CLOCK_FILE", str(shift))
    settings = settings_for(
        tmp_path / "data",
        demo_microscope(demo_configuration(tmp_path / "scope.cfg")),
        camera={"roi": (0, 0, 64, 64)},
    )
    with running(settings) as service:
        run = service.wait_for_run()
        epoch = service.status()["epoch"]
        for hours in (1, -2, 0):
            set_clock(hours * 3600)
            # The processes do see it.
            wait_for(lambda hours=hours: abs(service.status()["time_s"] - time.time() - hours * 3600) < 60)  # type: ignore[misc]
            recorded = service.status()["ledger"]["recorded"]
            wait_for(lambda recorded=recorded: service.status()["ledger"]["recorded"] > recorded + 48)  # type: ignore[misc]
            assert service.readiness()[0] == 200
        assert (service.status()["run_id"], service.status()["epoch"]) == (run, epoch)
        assert service.events().count("engine_restarted") == 0
        service.client.request("run.stop", {}, 60.0)
        ended = service.store.runs.get(run)
        assert (ended.state, ended.problem) == ("finished", None)
        times_s = service.store.frames.times_s(run)
        assert len(times_s) == len(service.check_recording(run)) > 4 * 48
        # Frames follow each other in milliseconds, also over the jumps of hours; a busy machine makes it seconds.
        assert 0 < np.diff(times_s).min() <= np.diff(times_s).max() < 60
        # From the first exposure on the time of the machine and that of the frames are the same.
        assert abs(times_s[-1] - time.monotonic()) < 120
        for batch in service.store.frames.analysed(run):
            assert 0 <= batch.frames.times_s[0] - batch.start_s < times_s[-1] - times_s[0] + 60
        assert os.environ["LD_PRELOAD"] == str(library)
