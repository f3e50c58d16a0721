"""Export of a tracker's networks for other engines."""
