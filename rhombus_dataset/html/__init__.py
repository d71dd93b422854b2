"""HTML templates. Every value is escaped."""
