"""Python that remembers: calls of the extension `python`, their results, and how these are shown."""
