"""The options of sessions and commands beyond the common protocol: checks and calls, pure."""
