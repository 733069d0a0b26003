"""Smaller forms of a bundle's encoder: calibrated, ranked by what they cost, written beside it."""
