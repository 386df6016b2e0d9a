"""From frames to localizations to tracks, without threads: used by the live engine, its catch-up, and jobs."""
