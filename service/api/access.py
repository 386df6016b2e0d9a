"""Who sends a request: the key that it shows, and the role of that key."""

from __future__ import annotations

import hmac
from dataclasses import dataclass

import structlog

from models.errors import DataError
from service.files.access_keys import AccessKeys, KeyRecord, Role, hashed
from service.settings import Settings, is_loopback

__all__ = ["Access", "Identity"]

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Identity:
    """The sender of a request: the name of its key, and its role."""

    name: str
    role: Role


_LOCAL = Identity("local", "administer")
"""Without any key, only this machine reaches the service, and may do everything."""

_OWNER = Identity("access_key", "administer")
"""The key of the setting."""


class Access:
    """The keys of a service: that of the setting `access_key`, and those of `bathyscope key`.

    The file of keys is read again when it has changed, so that a new key works and a revoked one does not, without a
    restart. When it cannot be read, the keys that were read last stay.

    Parameters
    ----------
    settings : Settings

    Raises
    ------
    DataError
        When the file of keys cannot be read.
    """

    def __init__(self, settings: Settings) -> None:
        self._own = None if settings.access_key is None else hashed(settings.access_key.get_secret_value())
        self._file = AccessKeys(settings.data_dir)
        self._state = self._file.state()
        self._records: list[KeyRecord] = self._file.records()
        # Once a key is needed it stays so: deleting the last key must not open the service.
        self._needed = self._own is not None or bool(self._records) or not is_loopback(settings.host)

    @property
    def is_needed(self) -> bool:
        """Whether clients need a key."""
        self._read_again()
        return self._needed

    def identify(self, given: object) -> Identity | None:
        """The owner of a key; None when it is none. The time of the comparison does not depend on how much is right."""
        if not self.is_needed:
            return _LOCAL
        if not isinstance(given, str):
            return None
        digest = hashed(given)
        if self._own is not None and hmac.compare_digest(digest, self._own):
            return _OWNER
        found = None
        for record in self._records:
            if hmac.compare_digest(digest, record.sha256):
                found = Identity(record.name, record.role)
        return found

    def identify_header(self, authorization: str | None) -> Identity | None:
        """The owner of the key in an Authorization header; None when there is none."""
        scheme, _, given = (authorization or "").partition(" ")
        return self.identify(given.strip() if scheme.lower() == "bearer" else None)

    def _read_again(self) -> None:
        state = self._file.state()
        if state == self._state:
            return
        self._state = state
        try:
            self._records = self._file.records()
        except DataError as error:
            _log.warning("keys_unreadable", problem=error.problem, remedy=error.remedy)
        self._needed = self._needed or bool(self._records)
