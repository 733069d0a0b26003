"""Published architectures, and the checkpoints they come in."""
