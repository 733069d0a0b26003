"""An encoder adapted to labelled cells and tiles."""
