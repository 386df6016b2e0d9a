"""Make and check the files of a release: ``python -m tools.release [--out dist] [--final]``."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
from pathlib import Path

from tools.release.archives import build_archives, faults_of_source, faults_of_wheel
from tools.release.bill_of_materials import page_materials, python_materials
from tools.release.versions import disagreements, project_version

ROOT = Path(__file__).resolve().parents[2]


def main(arguments: list[str] | None = None) -> int:
    """Build, list, check; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tools.release", description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="folder of the files")
    parser.add_argument("--final", action="store_true", help="also demand a dated section of the changelog")
    parser.add_argument("--no-sbom", action="store_true", help="without the bills of materials")
    given = parser.parse_args(arguments)
    out = given.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    version = project_version(ROOT)
    faults = disagreements(ROOT, is_released=given.final)
    os.environ["BATHYSCOPE_REQUIRE_PAGE"] = "1"
    source, wheel = build_archives(ROOT, out, version)
    faults += [f"{source.name}: {fault}" for fault in faults_of_source(source, version)]
    faults += [f"{wheel.name}: {fault}" for fault in faults_of_wheel(wheel, version)]
    files = [source, wheel]
    if not given.no_sbom:
        for part, make in (("python", python_materials), ("page", page_materials)):
            files.append(out / f"bathyscope-{version}-{part}.cdx.json")
            files[-1].write_text(json.dumps(make(ROOT), indent=1, sort_keys=True) + "\n", encoding="utf-8")
    for file in files:
        print(f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}")
    for fault in faults:
        print(f"fault: {fault}", file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
