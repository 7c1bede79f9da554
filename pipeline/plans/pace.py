"""How much is run of a network, by how slow it is.

A block is of 20 runs or 0.3 s, 3 runs at least (`profiles.sampling`); a round of a whole plan is
a fresh process with as many pairs of blocks as fit into `ROUND_S`. An attempt costs seconds for a
network of 300 ms too, and its interval is over rounds, however few the runs.
"""

from __future__ import annotations

from math import ceil

from profiles.rounds import Sampling
from profiles.sampling import FEWEST_RUNS, SLOW_BLOCK_S

MOST_LAPS = 5  # block pairs of a whole plan and round
ROUND_S = 1.0  # of a whole plan's blocks, beside the start of a process and the loading


def block_s(latency_ms: float) -> float:
    """How long a block of such a network takes."""
    run_s = latency_ms / 1e3
    full = max(Sampling().min_runs * run_s, Sampling().block_s)
    return max(min(full, SLOW_BLOCK_S), FEWEST_RUNS * run_s)


def laps(latency_ms: float | None) -> int:
    """Block pairs of two such networks in a round; one not measured yet is taken for a slow one."""
    return 1 if latency_ms is None else min(MOST_LAPS, ceil(ROUND_S / (2 * block_s(latency_ms))))
