"""Files of sandboxes, seen from outside, and the directories that the daemon owns."""
