"""A server of S3 for the tests: moto's, in this process. It can go away and come back with its objects."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from tests.conftest import need

__all__ = ["BUCKET", "S3Server"]

BUCKET = "lab"

_PORTS: list[int] = []
"""That of the first server; later ones use it too, because fsspec keeps its clients, which keep the address."""


class S3Server:
    """A running server with one empty bucket, to which the environment of this process leads.

    Parameters
    ----------
    monkeypatch : pytest.MonkeyPatch
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        need("moto")
        self._s3fs = need("s3fs")
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        self._server: Any = None
        self.port = _PORTS[0] if _PORTS else 0
        self.come_back()
        _PORTS[:] = [self.port]
        for name, value in {
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.port}",
            "AWS_CONFIG_FILE": "none",
            "AWS_SHARED_CREDENTIALS_FILE": "none",
        }.items():
            monkeypatch.setenv(name, value)
        self.files = self._s3fs.S3FileSystem(skip_instance_cache=True, use_listings_cache=False)
        for bucket in self.files.ls(""):
            self.files.rm(bucket, recursive=True)
        self.files.mkdir(BUCKET)

    def go_away(self) -> None:
        """Refuse connections from now on."""
        self._server.stop()

    def come_back(self) -> None:
        """Accept connections at the same port."""
        from moto.server import ThreadedMotoServer

        self._server = ThreadedMotoServer(ip_address="127.0.0.1", port=self.port, verbose=False)
        self._server.start()
        _, self.port = self._server.get_host_and_port()

    def put(self, name: str, content: bytes) -> None:
        """Replace an object of the bucket."""
        self.files.pipe_file(f"{BUCKET}/{name}", content)

    def names(self) -> set[str]:
        """Names of all objects of the bucket."""
        return {name.removeprefix(f"{BUCKET}/") for name in self.files.find(BUCKET)}

    def close(self) -> None:
        self._server.stop()
