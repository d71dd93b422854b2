"""A local server that answers the camera cloud's API from video files."""
