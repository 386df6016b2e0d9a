"""The version of the installed package."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

__all__ = ["installed_version"]


def installed_version() -> str:
    """Version of the installed package; ``"0+source"`` when it runs from a bare source tree."""
    try:
        return version("bathyscope")
    except PackageNotFoundError:
        return "0+source"
