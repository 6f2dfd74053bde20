"""The text that an interpreter runs inside a sandbox: `driver.py` first, and `showing.py` once it is needed.

The daemon reads both files and never imports them. They need only a standard library, of Python 3.8 or later.
"""
