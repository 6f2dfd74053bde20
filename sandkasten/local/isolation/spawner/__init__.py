"""Programs beside a sandbox's shell: the spawner (`spawner.c`), and the daemon's side of it."""
