"""Measuring the instrument as it runs: load, source, costs and figures of `demo` and `bench`."""
