"""The first fitted frame of a run compiles nothing."""

from __future__ import annotations

import subprocess
import sys

_PROGRAM = """
from importlib import import_module

from models.tracking.compilation import compile_tracker, rehearse
from service.engine.fit_time import EFFORTS
from tests.models.image_samples import FPS, SHAPE, candidates, counts, image_model

compile_tracker()
assert min(rehearse(image_model(), SHAPE, effort, 4) for effort in EFFORTS.values()) > 0
modules = ("level_equations", "level_patterns", "level_scores", "step", "residual_search", "layout", "score_test")
members = [vars(import_module(f"models.fit.{name}")) for name in modules]
kernels = {name: member for each in members for name, member in each.items() if hasattr(member, "signatures")}
assert kernels
before = {name: len(kernel.signatures) for name, kernel in kernels.items()}
tracker = image_model().tracker()
for n in range(12):
    tracker.step_image(n / FPS, n, candidates(n), counts(n))
assert before == {name: len(kernel.signatures) for name, kernel in kernels.items()}
"""


def test_the_fit_is_compiled_before_the_first_frame() -> None:
    # In a process of its own: other tests compile the kernels too.
    done = subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
