"""Tests of the client that have no twin: they need both packages, or none."""
