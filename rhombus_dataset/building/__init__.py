"""Build a dataset: fetch its frames under one quota and commit its shards, exactly once."""
