"""``python -m rhombus_dataset`` is the command ``rhombus-dataset``."""

from rhombus_dataset.cli import main

main(prog_name="rhombus-dataset")
