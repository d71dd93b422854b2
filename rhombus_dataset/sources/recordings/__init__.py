"""Frames from video files on this machine, as a site file describes them."""
