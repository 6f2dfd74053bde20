"""The command line `sandkasten`: a thin shell around `sandkasten_sync`.

`main.py` is the entry, `app.py` the list of commands; each command is in a module that is loaded when it
is used, and loads the client when it needs it.
"""
