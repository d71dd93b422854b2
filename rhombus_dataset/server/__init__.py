"""The other end: a local server that answers the camera cloud's API from video files."""

from rhombus_dataset.server.run import running_server, serve

__all__ = ["running_server", "serve"]
