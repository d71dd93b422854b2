"""Engines: fetch the frames of shards and commit them. One module for each kind of machine."""
