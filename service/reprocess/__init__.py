"""Recordings -> localizations -> tracks again: in this process, or in the workers of a Dask cluster."""
