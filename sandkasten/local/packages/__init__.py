"""Packages for sessions: resolved and fetched by the daemon, run by nobody outside of a sandbox."""
