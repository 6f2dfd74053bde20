"""Sandboxes in IPython and Jupyter: the magics `%%sandbox` and `%sandbox`, and displays of the models.

`%load_ext sandkasten` adds them; `extension` is where it begins. Everything is blocking and so uses
`sandkasten_sync`: the event loop that runs in a notebook's kernel is not needed, and not in the way.
"""
