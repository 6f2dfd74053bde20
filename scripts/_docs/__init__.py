"""The documentation site: additions to its builder, and the programs that make its pictures and figures."""
