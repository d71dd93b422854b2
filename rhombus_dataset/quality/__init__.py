"""Checks of a dataset that was built: summary, verification, near-duplicates."""
