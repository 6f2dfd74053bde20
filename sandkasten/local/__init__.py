"""The embedded daemon: sandboxes on this machine, without a server, Docker or root.

`launch` is what the client imports: it starts the daemon as a child process and needs the standard
library only. Everything else here is loaded in the daemon's own process. Read it in this order:

    serve     the process: sockets, signals, its owner
    app       HTTP in, HTTP out, nothing else
    manager   the sessions' lifetimes
    shell     one bash: commands in, output and outcomes out
    sandbox   one bubblewrap process and the descriptors that lead into it
    files     files in a sandbox, seen from outside
"""
