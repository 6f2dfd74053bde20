"""Processes beside a session's shell."""
