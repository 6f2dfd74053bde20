# What sandkasten/integrations/inspect_ai.py uses of Inspect, which is too large to be a part of `dev`.
