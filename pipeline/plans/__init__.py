"""What a plan may be and what it costs: the solver and its rules, latency tables, the bench."""
