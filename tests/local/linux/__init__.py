"""Tests of the system calls and processes below the daemon."""
