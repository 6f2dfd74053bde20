"""Sessions on several machines: Ray chooses the machine, and a gateway speaks the protocol that clients know.

    python -m sandkasten.ray up --local 3
    python -m sandkasten.ray gateway --no-api-key

Each node has an actor that owns a daemon. A session's id begins with its node's tag, and a placement group is
the session's lease of room there. So the gateway keeps nothing, and there may be any number of gateways.

The modules in `rules` decide and know nothing of Ray. `cluster`, `node`, `keeper`
and `local` speak with Ray; `pipes`, `gateway` and `serving` with clients and daemons.
"""
