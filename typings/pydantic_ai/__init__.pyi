# What sandkasten/integrations/pydantic_ai.py uses of Pydantic AI, which is no part of `dev`.
