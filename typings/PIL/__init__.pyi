# The part of Pillow that sandkasten/integrations/smolagents uses; it is no part of `dev`.
