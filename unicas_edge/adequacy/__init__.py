"""What a bundle knows of its encoder's tokens; ``csrc/verdict`` judges slides by it."""
