"""Measurement of the running instrument: load, costs and figures of `demo` and `bench`."""
