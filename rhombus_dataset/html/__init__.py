"""HTML from templates; every value is escaped."""
