"""A warm screener for other programs: sessions over HTTP, on a Unix socket or the loopback."""
