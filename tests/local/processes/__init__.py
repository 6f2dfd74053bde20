"""Processes beside the shell, in the daemon."""
