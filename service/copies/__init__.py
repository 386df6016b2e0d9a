"""Copies of finished recordings at another place: made, verified, and the local files freed."""
