"""Converts trained trackers between our files and those of pytracking's family."""
