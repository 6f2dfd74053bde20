"""Sessions: their lifetimes, their shells, and the commands that run in these."""
