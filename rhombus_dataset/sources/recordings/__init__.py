"""Frames from video files on this machine. A site file describes them."""
