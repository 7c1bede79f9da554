"""Where networks and data sets come from, and texts as tokens."""
