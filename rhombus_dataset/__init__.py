"""Build computer-vision datasets from camera-cloud footage, from a YAML sampling plan."""
