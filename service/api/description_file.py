"""Prints the OpenAPI document: `python -m service.api.description_file`. The types of the page are made from it.

The document depends neither on the settings nor on an engine, so the application is assembled in a temporary folder.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from service.api.app import create_app
from service.protocol.addresses import LinkAddress
from service.protocol.clients import EngineClient
from service.settings import Settings
from service.store.store import Store

__all__ = ["api_description", "api_description_text"]


def api_description() -> dict[str, Any]:
    """The OpenAPI document, without the version of Bathyscope, which changes more often than the API."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        store = Store.open(folder / "bathyscope.db")
        try:
            document = asyncio.run(_document(folder, store))
        finally:
            store.close()
    document["info"].pop("version")
    return document


async def _document(folder: Path, store: Store) -> dict[str, Any]:
    engine = EngineClient(LinkAddress.create(folder))
    try:
        return create_app(engine, store, Settings(data_dir=folder), folder / "no-page").openapi()
    finally:
        await engine.close()


def api_description_text() -> str:
    """The document as JSON with sorted keys, so that equal documents are equal texts."""
    return json.dumps(api_description(), indent=1, sort_keys=True)


if __name__ == "__main__":
    sys.stdout.write(api_description_text())
