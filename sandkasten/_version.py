"""The version; pyproject.toml reads it from here, since reading metadata at import costs milliseconds."""

__version__ = "0.4.0"
