"""The command line `sandkasten`: a thin shell around `sandkasten_sync`.

`main` is the entry, `app` the list of commands. Each command is in a module of `commands/` that is loaded
when the command is used, and that loads the client when it needs it. `parsing/` reads the arguments, `calls/`
works with sessions, and `output/` prints.
"""
