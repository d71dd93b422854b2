"""Label files of other tools, read and joined to frames: one module for each format."""
