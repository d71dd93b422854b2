"""The command line. Each command is one call of a public function."""

from rhombus_dataset.cli import datasets, plans, servers
from rhombus_dataset.cli.group import main

__all__ = ["datasets", "main", "plans", "servers"]
