"""`python -m sandkasten`: the command line, where its directory is not on the PATH."""

import os
import sys

# As in `sandkasten.local`: the current directory may hold what came out of a sandbox, such as a `json.py`.
if __name__ == "__main__" and not sys.flags.safe_path and sys.path[:1] == [os.getcwd()]:
    del sys.path[0]

from sandkasten.cli.main import main

if __name__ == "__main__":
    main()
