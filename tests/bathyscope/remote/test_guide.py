"""The examples of docs/client.md run one after another, as one script, with a short training."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

GUIDE = (ROOT / "docs" / "client.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)
SAID = (
    r"http://127\.0\.0\.1:\d+ \d+\.\d+",
    r"finished \d+ frames at",
    r"\d+ points; greatest depth",
    r"frame \d+ track \d+ at",
    r"\(128, 128\) counts",
    r"stage at -?[\d.]+ µm; [\d.]+ ms after mid-exposure",
    r"\(128, 128\) uint16 5\.0",
    r"422 The request breaks a rule",
    r"its soft limits are -150 to 150 µm",
    r"^frame \d+$",
    r"^finished$",
)
"""What the examples print."""


@pytest.mark.timeout(600)
def test_examples_of_the_guide(tmp_path: Path) -> None:
    script = "\n\n".join(BLOCKS)
    assert script.count("minutes=10") == 1
    path = tmp_path / "guide.py"
    path.write_text(script.replace("minutes=10", "minutes=0.2"), encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, path.name], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=580
    )
    assert done.returncode == 0, done.stderr
    for line in SAID:
        assert re.search(line, done.stdout, re.MULTILINE), (line, done.stdout)
    assert (tmp_path / "tracks.xml").stat().st_size > 0
