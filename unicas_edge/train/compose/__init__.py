"""Slides of real cells whose truth is known."""
