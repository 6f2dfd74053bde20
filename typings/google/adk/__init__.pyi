# The parts of ADK that sandkasten/integrations/google_adk uses; it is no part of `dev`.
# The signatures are those of google-adk 2.13.0.
