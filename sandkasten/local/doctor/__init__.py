"""The doctor: what this machine can isolate and limit."""
