"""From a plan to the schedule of frames: the lock, the sampling strategies, the splits."""
