# What sandkasten/integrations/deepagents.py uses of deepagents, which the environment of developers lacks.
