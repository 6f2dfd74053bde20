"""Tests of sessions and their shells."""
