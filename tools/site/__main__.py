"""Build the site: ``python -m tools.site [--out FOLDER]``. Ends with status 1 at a warning or a broken link."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from sphinx.cmd.build import build_main

from tools.site.links import check_links
from tools.site.sources import collect

ROOT = Path(__file__).resolve().parents[2]


def main(arguments: list[str] | None = None) -> int:
    """Collect, build, check; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tools.site", description="Build the documentation site.")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "site", help="folder of the site")
    out: Path = parser.parse_args(arguments).out.resolve()
    begun = time.monotonic()
    sources, trees = out.with_name(f"{out.name}-sources"), out.with_name(f"{out.name}-trees")
    collect(ROOT, sources)
    configuration = str(Path(__file__).parent)
    status: int = build_main(
        ["-q", "-b", "html", "-W", "--keep-going", "-c", configuration, "-d", str(trees), str(sources), str(out)]
    )
    if status:
        return status
    links = check_links(out)
    for fault in links.broken:
        print(f"broken link: {fault}", file=sys.stderr)
    print(
        f"{links.pages} pages, {links.internal} links within, {links.external} to other sites, "
        f"{len(links.broken)} broken, {time.monotonic() - begun:.0f} s: {out / 'index.html'}"
    )
    return 1 if links.broken else 0


if __name__ == "__main__":
    sys.exit(main())
