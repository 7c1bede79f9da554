"""The server side: map, score, plan, linearise, fine-tune, collapse, report."""
