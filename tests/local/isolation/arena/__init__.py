"""A sandbox, what it must not reach on the host, attempts to reach that, and the layers that prevent it."""
