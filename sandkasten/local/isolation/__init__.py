"""One sandbox: its policy, its bubblewrap process, and what runs inside beside the commands."""
