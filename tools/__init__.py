"""Tools of the repository that are not installed: the documentation site, and the files of a release."""
