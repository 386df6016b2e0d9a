"""Choice of the form of a response among those that a resource offers, by the Accept header."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

from fastapi import Request
from starlette.exceptions import HTTPException

__all__ = ["wanted_form"]

Form = TypeVar("Form", bound=str)


def wanted_form(request: Request, forms: Sequence[Form]) -> Form:
    """The one of `forms` that the Accept header prefers; the first when it accepts anything.

    Raises
    ------
    HTTPException
        406, when it accepts none of them.
    """
    accept = request.headers.get("accept") or "*/*"
    ranked = sorted(((_quality(accept, form), -rank, form) for rank, form in enumerate(forms)), reverse=True)
    quality, _, form = ranked[0]
    if quality <= 0:
        raise HTTPException(406, f"Accept is {accept[:200]!r}, which is none of {', '.join(forms)}")
    return form


def _quality(accept: str, form: str) -> float:
    """Preference of `accept` for `form`: the q of the most exact range that covers it (RFC 9110, 12.5.1)."""
    found: tuple[int, float] = (0, 0.0)
    for part in accept.split(","):
        media, *parameters = (piece.strip().lower() for piece in part.split(";"))
        exactness = {"*/*": 1, f"{form.split('/')[0]}/*": 2, form: 3}.get(media, 0)
        if exactness:
            found = max(found, (exactness, _q(parameters)))
    return found[1]


def _q(parameters: Iterable[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name == "q":
            try:
                return float(value)
            except ValueError:
                return 0.0
    return 1.0
