"""Tests of interpreters that remember."""
