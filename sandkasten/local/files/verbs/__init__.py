"""Verbs for the files of a sandbox, seen from outside, beyond reading and writing one."""
