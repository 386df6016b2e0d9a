"""Reference of the Python functions, from their docstrings: pages of Sphinx' autodoc."""

from __future__ import annotations

import bathyscope

__all__ = ["extension_page", "python_page"]

_HEAD = """Python
======

The functions of the package ``bathyscope``, for scripts and notebooks, from their docstrings.
:doc:`/docs/client` is a guide with examples.

.. automodule:: bathyscope

"""

_STEPS = ("calibrate", "train", "load_model", "localize", "track", "evaluate", "read_table", "write_table")
_GROUPS = (
    ("Steps", "function", _STEPS),
    ("Tables and models", "class", ("Localizations", "Tracks", "Truth", "Calibration", "Localizer")),
    ("Client of the service", "class", ("Client", "AsyncClient")),
    ("Errors", "exception", ("ServiceError",)),
)
"""Section, directive of autodoc, names."""

_PARTS = (
    ("runs", "bathyscope.remote.runs", "RunMethods"),
    ("calibrations", "bathyscope.remote.library", "CalibrationMethods"),
    ("models", "bathyscope.remote.library", "ModelMethods"),
    ("jobs", "bathyscope.remote.jobs", "JobMethods"),
    ("microscope", "bathyscope.remote.microscope", "MicroscopeMethods"),
    ("live", "bathyscope.remote.live", "Live"),
    ("control()", "bathyscope.remote.control", "Control"),
)
"""Attribute of the client, module and class that has its methods."""

_EXTENSION = """Python: extending it
====================

The protocols that drivers and networks of other packages follow. :doc:`/CONTRIBUTING` says how to register them.

"""

_PROTOCOLS = (
    ("Microscope drivers", "hardware.microscope", "Microscope"),
    ("Driver and its settings", "hardware.driver", "Driver"),
    ("Networks", "models.networks.architecture", "Architecture"),
)


def python_page() -> str:
    """Page of the public names of `bathyscope`, in reStructuredText.

    Raises
    ------
    ValueError
        When the groups of the page and the public names differ.
    """
    named = {name for _, _, names in _GROUPS for name in names}
    if named != set(bathyscope.__all__):
        raise ValueError(f"The page and bathyscope.__all__ differ in {sorted(named ^ set(bathyscope.__all__))}.")
    text = _HEAD
    for title, directive, names in _GROUPS:
        text += _heading(title)
        for name in names:
            text += f".. auto{directive}:: bathyscope.{name}\n"
            text += "   :members:\n   :inherited-members: Exception\n\n" if directive != "function" else "\n"
    text += _heading("Parts of the client")
    for attribute, module, name in _PARTS:
        text += f"client.{attribute}\n{'~' * (len(attribute) + 7)}\n\n"
        text += f".. autoclass:: {module}.{name}\n   :members:\n   :inherited-members:\n\n"
    return text


def extension_page() -> str:
    """Page of the protocols that other packages implement, in reStructuredText."""
    text = _EXTENSION
    for title, module, name in _PROTOCOLS:
        text += _heading(title) + f".. autoclass:: {module}.{name}\n   :members:\n\n"
    return text


def _heading(title: str) -> str:
    return f"{title}\n{'-' * len(title)}\n\n"
