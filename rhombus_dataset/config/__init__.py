"""YAML files with line numbers, and validation that collects every error."""
