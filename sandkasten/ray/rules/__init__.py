"""The decisions of a cluster, which know nothing of Ray: all of them can be tested without it."""
