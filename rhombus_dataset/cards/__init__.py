"""The data card (README.md) and the Croissant metadata of a dataset."""
