"""The local daemon: sandboxes on this machine, without a server, Docker or root.

`launch` is what the client imports: it starts the daemon as a child process and needs the standard
library only. Everything else is loaded in the daemon's own process. Read it in this order:

    serve, server   the two ways to start: owned by a client, or as `python -m sandkasten.local serve`
    daemon          what they share: looking at the machine, signals, the end
    connections     what a peer may take before its key is looked at: bytes, time, places
    app             HTTP in, HTTP out, nothing else (asgi: keys, streams; bodies: what clients send)
    manager         the sessions' lifetimes (pool: ready before they are asked for; quota: the disk)
    shell           one bash: commands in, output and outcomes out (command, control, transcript)
    sandbox         one bubblewrap process and the descriptors that lead into it
    bubblewrap      from a policy to its arguments (policy, seccomp, limits, cgroups, etc, images)
    files           files in a sandbox, seen from outside (workspaces)
    imagestore      root file systems that users register (imagesources, archives, unpack, catalogue)
    doctor          what this machine can isolate and limit (readings, findings, causes)
"""
