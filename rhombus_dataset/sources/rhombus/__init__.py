"""Frames and lists from the camera cloud, over HTTP."""
