"""Events of the daemon, and the metrics and log lines that are made of them."""
