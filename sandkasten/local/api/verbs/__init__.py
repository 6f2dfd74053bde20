"""Handlers of what is done with files beyond the calls that carry them."""
