"""Tools that know no slide and no model: files, names, hashes, arrays, the machine."""
