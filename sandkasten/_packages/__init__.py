"""Packages of a session: the calls of the extension `packages`."""
