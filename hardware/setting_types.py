"""Types of settings that several groups of settings share."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

__all__ = ["PathName", "Positive"]


def _path(value: Any) -> Any:
    """Refuse a value that is not a path, and the usual mistakes in writing one."""
    text = os.fspath(value) if isinstance(value, str | os.PathLike) else value
    if not isinstance(text, str):
        return value
    if not text.strip():
        raise ValueError("it is empty; name a folder or file, or leave the setting out")
    odd = next((letter for letter in text if ord(letter) < 32 or ord(letter) == 127), None)
    if odd is not None:
        raise ValueError(
            f"it holds the control character {odd!r}; in a TOML file write a Windows path in single quotes, "
            "'C:\\temp', because a backslash in double quotes begins an escape sequence"
        )
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError("its name is not UTF-8, so neither database nor page can name it; rename the folder") from None
    return value


PathName = Annotated[Path, BeforeValidator(_path)]
Positive = Annotated[float, Field(gt=0)]
