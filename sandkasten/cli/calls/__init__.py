"""Sessions, processes and transfers behind the commands."""
