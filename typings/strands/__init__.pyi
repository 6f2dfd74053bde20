# The parts of Strands that sandkasten/integrations/strands uses; it is no part of `dev`.
# The signatures are those of strands-agents 1.62.0.
