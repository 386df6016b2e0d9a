"""Checks of an installation: each states what it found and, when something is wrong, what to do."""
