"""One TOML file for each kind of machine; `unicas_edge.profile` reads them."""
