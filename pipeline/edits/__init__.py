"""The torch model as a traced graph: its edits, its counters, and its training in step."""
