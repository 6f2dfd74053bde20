"""Words that users type: arguments, options, identifiers and places, and their completion."""
