"""Interpreters of a session that remember: their processes, the channel to them, and what they run."""
