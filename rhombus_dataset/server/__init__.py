"""A local server with the API of the camera cloud. Its frames come from video files."""
