"""The local daemon: sandboxes on this machine, without a server, Docker or root.

`launch` is what the client imports: it starts the daemon as a child process and needs the standard
library only. Everything else is loaded in the daemon's own process. Read it in this order:

    embedded, server   the two ways to start: owned by a client, or as `python -m sandkasten.local serve`
    daemon             what they share: looking at the machine, signals, the end
    api/               HTTP in, HTTP out (connections: what a peer may take before its key is looked at)
    sessions/          the sessions' lifetimes, and one bash each: commands in, output and outcomes out
    isolation/         one bubblewrap process, from a policy to the descriptors that lead into it
    limits/            memory, processors and processes
    files/             files in a sandbox, seen from outside; workspaces; the disk's quota
    images/            root file systems: those of this machine, and those that operators register
    doctor/            what this machine can isolate and limit
    observe/           events, metrics, log lines
    linux/             system calls and processes
"""
