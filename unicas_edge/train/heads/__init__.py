"""Region heads: cross-validated, fitted, put into a bundle."""
