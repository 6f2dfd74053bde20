"""HTML from a sandbox: its height in a frame, and plain tables written anew; pure."""
