"""The sampling plan: what a person writes, read and checked once."""
