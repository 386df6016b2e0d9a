"""Packages import each other in one direction, and the command line starts without slow imports."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

FORBIDDEN = {
    "bathyscope": ("evaluation",),
    "evaluation": ("bathyscope",),
    "hardware": ("models", "service", "evaluation", "bathyscope"),
    "models": ("hardware", "service", "evaluation", "bathyscope"),
    "service": ("evaluation", "bathyscope"),
    "service/protocol": ("service.api", "service.commands", "service.engine", "service.jobs", "service.process"),
    "service/store": ("service.api", "service.commands", "service.engine", "service.jobs", "service.process"),
    "service/files": ("service.api", "service.commands", "service.engine", "service.jobs", "service.process"),
    "service/analysis": ("service.api", "service.commands", "service.engine", "service.jobs", "service.process"),
    "service/engine": ("service.api", "service.commands", "service.jobs"),
    "service/api": ("service.commands", "service.engine"),
    "service/jobs": ("service.api", "service.commands", "service.engine"),
}
"""Folder -> packages and modules that none of its files may import."""

SHARED = "bathyscope_errors"
"""The one module beside the packages. All of them may import it, because it imports nothing of theirs."""

HEAVY = ("torch", "zarr", "matplotlib", "fastapi", "numba", "pyarrow", "sqlalchemy")
"""Packages that take a second or more to load; `bathyscope --help` must print at once."""


def _imported(file: Path) -> Iterator[tuple[int, str]]:
    """Line and dotted name of everything that `file` imports, inside functions too."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"), str(file))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, name.name) for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}:{node.lineno} imports relatively; write the whole name"
            yield node.lineno, node.module or ""
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "import_module":
            target = node.args[0]
            if isinstance(target, ast.Constant) and isinstance(target.value, str):
                yield node.lineno, target.value


@pytest.mark.parametrize("folder", sorted(FORBIDDEN))
def test_a_folder_does_not_import_those_above_it(folder: str) -> None:
    files = sorted((ROOT / folder).rglob("*.py"))
    assert files
    against = [
        f"{file.relative_to(ROOT)}:{line} imports {name}"
        for file in files
        for line, name in _imported(file)
        if any(f"{name}.".startswith(f"{above}.") for above in FORBIDDEN[folder])
    ]
    assert against == []


def test_the_shared_module_imports_only_the_standard_library() -> None:
    for line, name in _imported(ROOT / f"{SHARED}.py"):
        assert name.partition(".")[0] in sys.stdlib_module_names, f"{SHARED}.py:{line} imports {name}"


def test_command_line_loads_nothing_heavy() -> None:
    code = f"import sys, service.commands.application; print(*[name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []
