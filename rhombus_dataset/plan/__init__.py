"""The sampling plan: what a person writes, read and validated once."""
