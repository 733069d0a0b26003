"""Images of single cells with their classes and sources, dealt into folds."""
