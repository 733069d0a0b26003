"""One TOML file for each kind of machine; `unicas_edge.screening.profile` reads them."""
