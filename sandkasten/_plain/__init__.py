"""Files on daemons without the extension `files`: what a command in the session's shell does instead.

If no such daemon is left one day, this folder goes, and `_shellfiles` with it.
"""
