"""Limits of memory, processors and processes: rlimits, and control groups where there are any."""
