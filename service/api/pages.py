"""The browser page and the API's own documentation, without the internet.

Both are built with the package. Where the build could not fetch its tools
the service still runs, and these addresses state what is missing.
"""

from __future__ import annotations

import mimetypes
from collections.abc import Callable
from pathlib import Path

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import FileResponse, HTMLResponse, PlainTextResponse, Response

__all__ = ["SWAGGER_FOLDER", "install_page", "page_state", "public_paths", "router"]

SWAGGER_FOLDER = "swagger"
"""Where the build puts Swagger UI's bundle, inside the folder of the page."""

_OPEN = frozenset({"/", "/healthz", "/docs", "/docs/start.js", "/openapi.json"})

_NOT_BUILT = """The page of Bathyscope is not here: it was not built when the package was installed.

Why: the build fetches three.js, uPlot and Vite from the npm registry, and could not reach it (or was run without it).
How: install again with a connection to the npm registry:  pip install --force-reinstall --no-deps .
Everything else works: the API is described at /openapi.json, and docs/api-guide.md shows how to use it.
"""

_DOCS = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>Bathyscope API</title>
<link rel="icon" type="image/svg+xml" href="favicon.svg">
<link rel="stylesheet" href="swagger/swagger-ui.css">
</head>
<body>
<div id="swagger-ui"></div>
<script src="swagger/swagger-ui-bundle.js"></script>
<script src="docs/start.js"></script>
</body>
</html>
"""

_START = 'window.ui = SwaggerUIBundle({ url: "openapi.json", dom_id: "#swagger-ui", deepLinking: true });\n'

_COMPRESSED = ".gz"

router = APIRouter(include_in_schema=False)


@router.get("/")
def page(request: Request) -> Response:
    """The page, or what to do when it was not built."""
    index: Path = request.app.state.page / "index.html"
    if not index.is_file():
        return PlainTextResponse(_NOT_BUILT, 503)
    return FileResponse(index, headers={"Cache-Control": "no-cache"})


@router.get("/docs")
def docs(request: Request) -> Response:
    """Swagger UI on the API's description."""
    if not (request.app.state.page / SWAGGER_FOLDER / "swagger-ui-bundle.js").is_file():
        return PlainTextResponse(_NOT_BUILT, 503)
    return HTMLResponse(_DOCS)


@router.get("/docs/start.js")
def docs_start() -> Response:
    """The line that starts Swagger UI; a file of its own, because the page allows no inline scripts."""
    return Response(_START, media_type="text/javascript")


def page_state(request: Request) -> str:
    """Whether there is a page: ``"built"`` or ``"not built"``."""
    return "built" if (request.app.state.page / "index.html").is_file() else "not built"


def public_paths(page: Path) -> frozenset[str]:
    """Addresses of the page's files and of the documentation, which need no access key."""
    return _OPEN | {f"/{name}" for name in _files(page)}


def install_page(app: FastAPI, page: Path) -> None:
    """Serve the files of the page: each has an address of its own, so that no other address is touched."""
    for name, file in _files(page).items():
        app.add_route(f"/{name}", _sender(name, file), methods=["GET"], include_in_schema=False)


def _files(page: Path) -> dict[str, Path]:
    files = (file for file in sorted(page.rglob("*")) if file.is_file() and file.suffix != _COMPRESSED)
    return {file.relative_to(page).as_posix(): file for file in files}


def _sender(name: str, file: Path) -> Callable[[Request], Response]:
    """Bundles carry a hash in their names, so browsers may keep them; large files are compressed by the build."""
    headers = {"Cache-Control": "public, max-age=31536000, immutable"} if name.startswith("assets/") else {}
    compressed = file.with_name(file.name + _COMPRESSED)
    media_type = mimetypes.guess_type(file.name)[0]

    def send(request: Request) -> Response:
        if not compressed.is_file():
            return FileResponse(file, headers=headers)
        both = {**headers, "Vary": "Accept-Encoding"}
        if _takes_gzip(request.headers.get("accept-encoding", "")):
            return FileResponse(compressed, headers={**both, "Content-Encoding": "gzip"}, media_type=media_type)
        return FileResponse(file, headers=both)

    return send


def _takes_gzip(accepted: str) -> bool:
    """Whether an Accept-Encoding header allows gzip."""
    for part in accepted.lower().split(","):
        name, _, weight = part.partition(";")
        if name.strip() == "gzip":
            return weight.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False
