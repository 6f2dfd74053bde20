"""HTTP in, HTTP out: requests, bodies, keys and streams; the decisions are in the packages below."""
