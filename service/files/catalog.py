"""The folders of one kind, calibrations or models: a list of them, and each by its id.

The id is written in the description file of the folder. The folder's name may
differ from it, because people copy and rename folders. When two folders have
the same id, the first one counts. A folder that cannot be read does not hide
the others: a list names it with the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from models.errors import DataError
from service.files.descriptions import (
    FolderUnreadable,
    Listing,
    Unreadable,
    read_description,
    shown_name,
    unreadable,
)
from service.store.errors import UnknownItem

__all__ = ["Catalog", "CatalogItem", "creation_date", "display_name", "required_description"]


class CatalogItem(Protocol):
    """What every item of a catalog has."""

    @property
    def id(self) -> str:
        """Id that is written in the description of the folder."""

    @property
    def created_at(self) -> datetime:
        """When it was written, UTC; lists are sorted by it."""


Item = TypeVar("Item", bound=CatalogItem)


class Catalog(Generic[Item]):
    """The folders of one kind.

    Parameters
    ----------
    kind : str
        ``"calibrations"`` or ``"models"``: the folder of the data directory, and the resource of the API.
    file : str
        Name of the description file in each folder: ``"calibration.json"``.
    readers : callable
        Returns each folder with a function that reads it as an item. The function raises `FolderUnreadable`.
    """

    def __init__(
        self, kind: str, file: str, readers: Callable[[], Iterable[tuple[Path, Callable[[Path], Item]]]]
    ) -> None:
        self._kind = kind
        self._file = file
        self._readers = readers

    def page(self, limit: int = 100, cursor: str | None = None) -> Listing[Item]:
        """At most `limit` items, newest first, and the folders that cannot be read.

        Raises
        ------
        DataError
            When `cursor` is not from the page before, or the folder of all items cannot be listed.
        """
        items, unreadables = self._read_all()
        ordered = sorted((item for _, item in items.values()), key=lambda item: (item.created_at, item.id))[::-1]
        ids = [item.id for item in ordered]
        if cursor is not None and cursor not in ids:
            raise DataError(
                f"cursor {cursor[:64]!r} is not one that a list returned.",
                "Use the 'next' of the page before, or leave it out.",
            )
        begin = 0 if cursor is None else ids.index(cursor) + 1
        page = ordered[begin : begin + limit]
        return Listing(page, page[-1].id if begin + limit < len(ordered) else None, unreadables[:limit])

    def items(self) -> list[Item]:
        """All items that can be read.

        Raises
        ------
        DataError
            When the folder of all items cannot be listed.
        """
        return [item for _, item in self._read_all()[0].values()]

    def item(self, item_id: str) -> Item:
        """The item with this id; raises as `folder`."""
        folder = self.folder(item_id)
        return next(item for place, item in self._read_all()[0].values() if place == folder)

    def folder(self, item_id: str) -> Path:
        """Path of the folder with this id.

        Raises
        ------
        UnknownItem
            When no folder has this id.
        FolderUnreadable
            When a folder has this name but cannot be read.
        """
        items, unreadables = self._read_all()
        if item_id in items:
            return items[item_id][0]
        for other in unreadables:
            if other.folder == f"{self._kind}/{shown_name(item_id)}":
                raise FolderUnreadable(other.problem, other.remedy)
        raise UnknownItem(
            f"There is no {self._kind.removesuffix('s')} {item_id[:64]!r}.",
            f"See /api/v1/{self._kind} for those that there are.",
        )

    def description(self, item_id: str) -> dict[str, Any]:
        """The whole content of the description file, and the item's name for people.

        Raises
        ------
        UnknownItem
            When no folder has this id.
        FolderUnreadable
            When a folder has this name but cannot be read.
        """
        folder = self.folder(item_id)
        return {**required_description(folder, self._file), "name": display_name(folder)}

    def _read_all(self) -> tuple[dict[str, tuple[Path, Item]], list[Unreadable]]:
        """All items by id, with their folders, and the folders that cannot be read."""
        items: dict[str, tuple[Path, Item]] = {}
        unreadables = []
        for folder, read in self._readers():
            try:
                item = read(folder)
                first, _ = items.setdefault(item.id, (folder, item))
                if first.parent == folder.parent and first != folder:
                    raise unreadable(folder, f"it has the id {item.id!r} as {shown_name(first.name)} has")
            except FolderUnreadable as error:
                place = f"{shown_name(folder.parent.name)}/{shown_name(folder.name)}"
                unreadables.append(Unreadable(place, error.problem, error.remedy))
        return items, unreadables


def required_description(folder: Path, name: str) -> dict[str, Any]:
    """The JSON object in the file `name` of `folder`.

    Raises
    ------
    FolderUnreadable
        When the file is missing or cannot be read.
    """
    try:
        return read_description(folder / name)
    except FileNotFoundError as error:
        raise unreadable(folder, f"{name} is missing") from error


def display_name(folder: Path) -> str:
    """The name for people, from ``about.json``; empty when there is none or it cannot be read."""
    try:
        return str(read_description(folder / "about.json").get("name", ""))
    except (FileNotFoundError, FolderUnreadable):
        return ""


def creation_date(path: Path) -> datetime:
    """When a file was written, UTC.

    Raises
    ------
    FolderUnreadable
        When the date cannot be read.
    """
    try:
        return datetime.fromtimestamp(path.stat().st_mtime, UTC)
    except (OSError, OverflowError, ValueError) as error:
        raise unreadable(path.parent, f"the date of {path.name} cannot be read ({error})") from error
