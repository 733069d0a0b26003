"""The dense aggregator: fitted on bags, calibrated, cross-validated."""
