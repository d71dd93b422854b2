"""Frames from the camera cloud, over HTTP."""
