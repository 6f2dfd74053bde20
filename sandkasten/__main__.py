"""`python -m sandkasten`: the command line, where its directory is not on the PATH."""

from sandkasten.cli.main import main

if __name__ == "__main__":
    main()
