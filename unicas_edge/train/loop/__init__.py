"""One training loop: settings, batches, processes, checkpoints, curves."""
