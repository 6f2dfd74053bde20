"""Processes beside the shell: what can be decided without waiting."""
