"""A certificate for 127.0.0.1 that signs itself."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.conftest import need


def certificate(folder: Path) -> tuple[Path, Path]:
    """Paths of a certificate and its key, valid for a day."""
    chain, key = folder / "certificate.pem", folder / "key.pem"
    subprocess.run(
        [
            need("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
            "-keyout", key, "-out", chain, "-days", "1", "-subj", "/CN=scope", "-addext", "subjectAltName=IP:127.0.0.1",
        ],
        check=True,
        capture_output=True,
    )  # fmt: skip
    return chain, key
