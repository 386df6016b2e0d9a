"""The documentation site: the pages of this repository, and a reference that is generated from the code.

``python -m tools.site`` builds it into ``build/site``, without network. Three
steps, one module each: `sources` collects the pages in a folder of the same
layout as the repository, so that links between pages work in both; Sphinx
makes HTML of them, where a warning is an error; `links` checks every link of
the result.

The reference is generated at each build, from the settings (`settings_page`),
the commands (`commands_page`), the OpenAPI description (`http_page`) and the
docstrings (`python_pages`). It cannot differ from the code.
"""
