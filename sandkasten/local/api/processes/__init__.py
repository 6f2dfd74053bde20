"""HTTP for processes beside a session's shell."""
