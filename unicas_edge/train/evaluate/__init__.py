"""Figures with their intervals: predictions in, a report out."""
