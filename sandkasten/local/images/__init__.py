"""Root file systems: those of this machine, and those that operators register."""
