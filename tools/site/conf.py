"""Configuration of Sphinx for `python -m tools.site`. Everything that the pages load is part of the site."""

from __future__ import annotations

from importlib.metadata import version as installed_version

project = "Bathyscope"
author = "Bathyscope developers"
copyright = author
version = release = installed_version("bathyscope")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]
root_doc = "index"
html_theme = "furo"
html_title = "Bathyscope"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_show_sphinx = False
html_copy_source = False
html_last_updated_fmt = None
pygments_style = "friendly"
pygments_dark_style = "monokai"

# Anchors of headings as GitHub makes them, so that the links of the pages lead to the same place in both.
myst_heading_anchors = 4

autodoc_typehints = "none"
autodoc_member_order = "bysource"
autodoc_default_options = {"show-inheritance": False}
napoleon_google_docstring = False
napoleon_use_rtype = False
# Single backticks are names of code in the docstrings.
default_role = "code"

# The earlier versions of the performance record stay as they were written; some leave out a level of headings.
suppress_warnings = ["myst.header"]
