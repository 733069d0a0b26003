"""Stage 1: a path becomes an open `Slide`; one module per reader, chosen by content."""
