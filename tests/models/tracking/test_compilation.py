"""A live run compiles nothing: all kernels are ready before its first frame."""

from __future__ import annotations

import subprocess
import sys

_PROGRAM = """
from importlib import import_module

from evaluation.tracks.detections import QUALITIES, detections
from evaluation.tracks.patterns import PATTERNS, true_tracks
from models.tracking.compilation import compile_tracker
from models.tracking.offline import track_table

found = detections(true_tracks(PATTERNS[0], 30, 30, 100.0, 1), QUALITIES[0], 1)
compile_tracker()
modules = ("association", "births", "detection", "gates", "motion_models", "noise")
members = [vars(import_module(f"models.tracking.{name}")) for name in modules]
kernels = {name: member for each in members for name, member in each.items() if hasattr(member, "signatures")}
assert kernels
before = {name: len(kernel.signatures) for name, kernel in kernels.items()}
track_table(found, 100.0)
assert max(before.values()) == 1, before
assert before == {name: len(kernel.signatures) for name, kernel in kernels.items()}
"""


def test_all_kernels_are_compiled_before_the_first_frame() -> None:
    # In a process of its own: other tests compile the kernels too.
    done = subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
