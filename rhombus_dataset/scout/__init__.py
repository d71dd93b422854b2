"""Choose frames by what a cheap pass of small images shows."""
