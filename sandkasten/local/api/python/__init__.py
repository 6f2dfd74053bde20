"""HTTP for Python that remembers."""
