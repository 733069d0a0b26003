"""TIFF: the index of untrusted files, the fast reader, and the writer of pyramids."""
