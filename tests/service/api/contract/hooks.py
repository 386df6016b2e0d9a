"""Checks of schemathesis that belong to this service: how it refuses."""

from __future__ import annotations

import re
from typing import Any

import schemathesis

RULES_BEYOND_A_SCHEMA = (
    r"must not be (greater|later)",
    r"must be (lower|below)",
    r"low end must be below",
    r"is not one that a list returned",
    r"are both given; give the position or the distance",
    r"nothing is given",
    r"must be one of the sizes of",
    r"give no settings with it",
    r"of revision \d+",
    r"soft limits",
    r"it must be from 0 to the time between frames",
    r"was asked for; the .* has no channels",
    r"plausible numbers of planes",
    r"has \d+ positions; it has",
    r"is the digest of a sent archive",
    r"is given together with .*; give it alone",
    r"Two files have the name",
    r"has no properties and presets",
    r"published tracker has no smoothing",
    r"more memory|more disk",
    r"chosen in JSON only",
    r"is no sequence of useq-schema",
    r"sequence of useq-schema .* it is not run",
)
"""Rules between several values, and those that follow from what the service has and where the microscope is."""

_ALLOWED = re.compile("|".join(RULES_BEYOND_A_SCHEMA))


@schemathesis.check
def refuses_with_a_reason(_context: Any, response: Any, case: Any) -> None:
    """Each refusal is a problem with a remedy, and what fits the schema breaks a rule that a schema cannot state."""
    if response.status_code < 400:
        return
    content_type = response.headers.get("content-type", [""])[0]
    if case.operation.method.upper() == "HEAD":
        return
    assert content_type == "application/problem+json", f"{response.status_code} is {content_type}"
    problem = response.json()
    assert problem["detail"], "a problem without a detail"
    assert problem["remedy"], "a problem without a remedy"
    meta = case.meta
    if response.status_code == 422 and meta is not None and meta.generation.mode.is_positive:
        assert _ALLOWED.search(problem["detail"]), f"fits the schema and is refused: {problem['detail'][:300]}"
