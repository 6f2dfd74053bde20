"""`%%sandbox --python`: cells in the interpreter of the session that remembers."""
