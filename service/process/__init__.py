"""The supervisor and its child processes: how they start, end and restart, and their logs, locks and signals."""
