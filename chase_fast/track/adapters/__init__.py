"""The tracker in the clothes of other toolkits: OpenCV's Tracker, got10k's Tracker, a TraX server for VOT."""
