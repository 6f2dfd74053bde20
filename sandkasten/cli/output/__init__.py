"""Text, tables and colours for the terminal, and how failures are shown."""
