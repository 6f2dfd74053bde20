"""Files on daemons without the extension `files`: their limits, and the commands that do without it.

If no such daemon is left one day, this folder goes, and `_plainfiles` and `_shellfiles` with it.
"""
