"""Which role a request needs, in one place: a new resource needs at least the role of its method."""

from __future__ import annotations

import re

from service.files.access_keys import ROLES, Role

__all__ = ["SAFE_METHODS", "STOP", "allows", "needed_role"]

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})

STOP = "/api/v1/microscope/stop"
"""Open to every key: whoever sees the microscope move may stop it."""

_ADMINISTERED = re.compile(r"/api/v1/(?:audit|retention)\b")
_CANCEL = re.compile(r"/api/v1/jobs/[^/]+")


def needed_role(method: str, path: str) -> Role:
    """The role that a request needs.

    Reading needs ``view``. Whatever deletes data, the retention and the audit
    need ``administer``; everything else that changes something needs
    ``operate``, as does cancelling a job. The plan of the retention may be read.
    """
    if method in SAFE_METHODS:
        return "administer" if path.startswith("/api/v1/audit") else "view"
    if path == STOP:
        return "view"
    if method == "DELETE":
        return "operate" if _CANCEL.fullmatch(path) else "administer"
    return "administer" if _ADMINISTERED.match(path) else "operate"


def allows(role: Role, needed: Role) -> bool:
    """Whether a role includes another one."""
    return ROLES.index(role) >= ROLES.index(needed)
