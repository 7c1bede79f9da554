"""The verbs that ask about a network: map, collapse, table, plan, score, export, report."""
