"""How fast an artifact is on a device: targets, sampling, records, statistics."""
