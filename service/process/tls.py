"""The certificate of the service, checked before it starts."""

from __future__ import annotations

import ssl

from models.errors import DataError
from service.settings import Settings

__all__ = ["check_tls"]


def check_tls(settings: Settings) -> None:
    """Load certificate and key of the settings, when there are any.

    Raises
    ------
    DataError
        When a file cannot be read, or they do not belong together.
    """
    if settings.tls_certificate is None or settings.tls_key is None:
        return
    for name, path in (("tls_certificate", settings.tls_certificate), ("tls_key", settings.tls_key)):
        try:
            path.read_bytes()
        except OSError as error:
            raise DataError(
                f"{name} is {path}, which cannot be read ({error.strerror}).",
                "Correct the path, or let the user of the service read it.",
            ) from error
    try:
        # The empty password keeps OpenSSL from asking at the terminal.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(settings.tls_certificate, settings.tls_key, "")
    except (ssl.SSLError, OSError) as error:
        raise DataError(
            f"{settings.tls_certificate} and {settings.tls_key} are no certificate and its key ({error}).",
            "Give the certificate chain and its private key as PEM files, the key without a password.",
        ) from error
