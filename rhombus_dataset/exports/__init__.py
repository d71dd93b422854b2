"""Formats of other tools, written from a dataset: one module for each format."""
