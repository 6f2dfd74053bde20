"""Tests of files and workspaces."""
