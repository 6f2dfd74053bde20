# What sandkasten/integrations/deepagents uses of deepagents, which the environment of developers lacks.
