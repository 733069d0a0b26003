"""Other aggregators from the literature, for comparison."""
