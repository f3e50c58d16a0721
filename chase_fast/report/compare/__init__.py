"""The comparison of runs: which may stand side by side, their tables, the page."""
