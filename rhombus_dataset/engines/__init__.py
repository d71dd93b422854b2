"""How the frames of a build are fetched and its shards committed: on this machine (``local``)."""
