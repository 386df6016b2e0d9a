"""The signals that request the end, each in a separate process."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from service.process.signals import ENDING_SIGNALS, ending_of

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of Unix")

WAIT = """
import os
from service.commands.waiting import Interrupted, interruptible
with interruptible() as pause:
    print("ready", flush=True)
    try:
        pause(20)
        print("nothing")
    except Interrupted as interrupted:
        print(interrupted.ending.wanted, interrupted.ending.reason)
"""

IGNORE = """
import os, signal
from service.process.children import ignore_signals
ignore_signals()
from service.process.signals import ENDING_SIGNALS
for number in ENDING_SIGNALS:
    os.kill(os.getpid(), number)
print("lives")
"""


@pytest.mark.parametrize(
    ("number", "wanted"),
    [(signal.SIGINT, True), (signal.SIGTERM, True), (signal.SIGHUP, False), (signal.SIGQUIT, True)],
)
def test_each_signal_ends_in_order_and_says_whether_a_user_requested_it(number: signal.Signals, wanted: bool) -> None:
    with subprocess.Popen([sys.executable, "-c", WAIT], stdout=subprocess.PIPE, text=True) as waiting:
        assert waiting.stdout is not None
        assert waiting.stdout.readline() == "ready\n"
        waiting.send_signal(number)
        said = waiting.stdout.read()
    assert said.startswith(str(wanted))
    assert number.name in said


def test_a_hang_up_that_nohup_ignores_stays_ignored() -> None:
    waiting = subprocess.Popen(
        [sys.executable, "-c", WAIT],
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
    )
    with waiting:
        assert waiting.stdout is not None
        waiting.stdout.readline()
        waiting.send_signal(signal.SIGHUP)
        waiting.send_signal(signal.SIGTERM)
        assert "SIGTERM" in waiting.stdout.read()


def test_children_ignore_all_ending_signals() -> None:
    done = subprocess.run([sys.executable, "-c", IGNORE], capture_output=True, text=True, check=True)
    assert done.stdout == "lives\n"


def test_each_signal_has_a_reason() -> None:
    for number in ENDING_SIGNALS:
        assert signal.Signals(number).name in ending_of(number).reason
