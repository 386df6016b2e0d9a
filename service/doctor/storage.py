"""The data directory and its database."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

from service.doctor.findings import Finding, ok
from service.files.access_keys import AccessKeys
from service.process.tls import check_tls
from service.settings import Settings
from service.store.store import Store

__all__ = ["check_database", "check_keys", "newest_event_s"]


def check_database(settings: Settings) -> Iterator[Finding]:
    """Whether the database responds and has known tables.

    Raises
    ------
    StoreError
        When it does not.
    """
    if settings.database_url is None and not (settings.data_dir / "bathyscope.db").exists():
        yield ok("database", f"There is no database in {settings.data_dir} yet; the service makes it.")
        return
    with closing(Store.open(settings.database)) as store:
        store.check()
        runs = store.runs.list(1).items
        pending = store.removals.pending()
        text = "no runs" if not runs else f"newest run {runs[0].id}"
        yield ok("database", f"{store.location} responds; {text}.", deletions_waiting=len(pending))


def newest_event_s(settings: Settings) -> float | None:
    """Date of the newest event in the database, Unix seconds; None when there is none.

    Raises
    ------
    StoreError
        When the database does not respond.
    """
    if settings.database_url is None and not (settings.data_dir / "bathyscope.db").exists():
        return None
    with closing(Store.open(settings.database)) as store:
        events = store.events.list(1).items
        return events[0].occurred_at.timestamp() if events else None


def check_keys(settings: Settings) -> Iterator[Finding]:
    """Access keys and certificate.

    Raises
    ------
    DataError
        When one of them cannot be read.
    """
    check_tls(settings)
    keys = AccessKeys(settings.data_dir).records()
    own = "" if settings.access_key is None else " and that of the setting access_key"
    yield ok("access", f"{len(keys)} access keys{own}; the service speaks {settings.scheme.upper()}.", keys=len(keys))
