"""Sandboxes as tools of agents: one module for each framework, loaded only by whoever imports it."""
