"""The running service against its own description: schemathesis sends what fits it and what does not, all checks on.

The cases are bounded: at most `CASES` random ones for each operation, those of the boundaries, and sequences of
requests that use each other's ids. Run it with: pytest -m slow tests/service/api/test_contract.py
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bathyscope.remote.demo import DemoService
from service.files.access_keys import AccessKeys
from tests.conftest import ROOT

CASES = 20
SEED = 1
RULES = Path(__file__).parent / "contract"

MICROSCOPE = {
    "driver": "simulated", "stage_low_um": -30, "stage_high_um": 30,
    "simulated": {"height": 64, "width": 64, "emitters": 3, "frame_period_s": 0.05},
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_the_service_does_what_it_describes(tmp_path: Path) -> None:
    demo = DemoService({"microscope": MICROSCOPE})
    try:
        key = AccessKeys(demo.folder).add("contract", "administer")
        report, rules = tmp_path / "report.json", tmp_path / "rules"
        shutil.copytree(RULES, rules)  # the files that it writes beside its rules stay out of the repository
        done = subprocess.run(
            [
                sys.executable, "-c", "from schemathesis.cli import schemathesis; schemathesis()",
                "--config-file", "schemathesis.toml", "run", f"{demo.address}/openapi.json",
                "--header", f"Authorization: Bearer {key}", "--max-examples", str(CASES), "--seed", str(SEED),
                "--generation-database", "none", "--continue-on-failure", "--no-color", "--report", "json",
                "--report-json-path", str(report),
            ],
            cwd=rules, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=2300,
        )  # fmt: skip
    finally:
        demo.close()
    assert report.exists(), done.stdout + done.stderr
    found = json.loads(report.read_text())
    print(found["test_cases"]["generated"], "cases of", found["operations"]["tested"], "operations")
    # The bodies of uploads are long.
    assert done.returncode == 0, "\n".join(line[:500] for line in done.stdout.splitlines())[-20_000:]
    assert found["complete"]
    assert found["operations"]["tested"] == found["operations"]["total"]
    assert found["test_cases"]["generated"] > 50 * found["operations"]["total"]
