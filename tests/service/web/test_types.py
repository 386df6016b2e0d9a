"""The types of the page are those of the API, and its large files are sent compressed."""

from __future__ import annotations

import gzip
import hashlib
import re
from pathlib import Path

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from service.api.description_file import api_description_text
from service.api.pages import install_page
from tests.conftest import ROOT

SCHEMA = ROOT / "service" / "web" / "src" / "api" / "schema.ts"


def test_types_of_the_page_were_made_from_the_present_api() -> None:
    """After a change of the API: npm run types, in service/web."""
    stated = re.search(r"SHA-256 ([0-9a-f]{64})", SCHEMA.read_text(encoding="utf-8").partition("\n")[0])
    assert stated is not None
    assert stated[1] == hashlib.sha256(api_description_text().encode()).hexdigest()


@pytest.fixture
def client(tmp_path: Path) -> TestClient:
    (tmp_path / "assets").mkdir()
    (tmp_path / "assets" / "page.js").write_text("plain")
    (tmp_path / "assets" / "page.js.gz").write_bytes(gzip.compress(b"packed"))
    (tmp_path / "stop.js").write_text("small")
    app = FastAPI()
    install_page(app, tmp_path)
    return TestClient(app)


@pytest.mark.parametrize(
    ("accepted", "content"),
    [("gzip, br", "packed"), ("br, gzip;q=0.5", "packed"), ("gzip;q=0", "plain"), ("br", "plain")],
)
def test_a_large_file_is_sent_compressed_where_the_client_takes_it(
    client: TestClient, accepted: str, content: str
) -> None:
    answer = client.get("/assets/page.js", headers={"Accept-Encoding": accepted})
    assert answer.text == content
    assert answer.headers["Vary"] == "Accept-Encoding"
    assert answer.headers["Content-Type"].startswith("text/javascript")
    assert "immutable" in answer.headers["Cache-Control"]
    assert ("Content-Encoding" in answer.headers) == (content == "packed")


def test_a_file_without_a_compressed_one_is_sent_as_it_is(client: TestClient) -> None:
    assert client.get("/stop.js").text == "small"
    assert client.get("/assets/page.js.gz").status_code == 404
