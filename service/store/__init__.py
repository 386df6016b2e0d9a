"""The store of runs, localizations, tracks and events."""
