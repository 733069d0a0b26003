"""Region heads: single images of cells or tiles become probabilities."""
