"""How long the collapse itself takes, and how much memory, certificate aside.

    python tests/benchmarks/collapse_speed.py [NAME ...]

Each network is exported once, linearised throughout, and collapsed in a process of its own on one
core. Limits: mobilenet_v2 and resnet50 3 s, swin_t 6 s, peak memory 6x the model's size.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from torchvision import models

from pipeline.collapse import collapse
from pipeline.collapse.linearising import linearise
from pipeline.graphs.loading import load_model
from pipeline.mapping import map_model

LIMITS_S = {"mobilenet_v2": 3.0, "resnet50": 3.0, "swin_t": 6.0}
MEMORY_LIMIT = 6.0


def main(names: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            path = Path(folder) / f"{name}.onnx"
            network = models.get_model(name, weights=None).eval()
            program = torch.onnx.export(
                network, (torch.randn(1, 3, 224, 224),), dynamo=True, verbose=False
            )
            assert program is not None
            program.save(path)
            environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
            done = subprocess.run(
                [sys.executable, __file__, "--child", str(path)],
                env=environment,
                capture_output=True,
                text=True,
                check=True,
            )
            found = json.loads(done.stdout)
            limit = LIMITS_S.get(name)
            print(
                f"{name}: loaded, linearised and collapsed in {found['seconds']:.2f} s"
                f"{f' (limit {limit:.0f} s)' if limit else ''}, {found['merges']} merges, "
                f"peak {found['peak_bytes'] / path.stat().st_size:.1f}x the model's "
                f"{path.stat().st_size / 2**20:.0f} MiB (limit {MEMORY_LIMIT:.0f}x)"
            )


def child(path: Path) -> None:
    """From the file to the collapsed graph; memory is what the peak grew by since the imports."""
    before = peak_bytes()
    started = time.perf_counter()
    model = load_model(path)
    sites = map_model(model).sites
    done = collapse(linearise(model, sites, [site.id for site in sites]))
    spent = time.perf_counter() - started
    grown = peak_bytes() - before
    print(json.dumps({"seconds": spent, "merges": len(done.merges), "peak_bytes": grown}))


def peak_bytes() -> int:
    """VmHWM: the peak that getrusage tells survives exec and would be the parent's."""
    status = Path("/proc/self/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(Path(sys.argv[2]))
    else:
        main(sys.argv[1:] or list(LIMITS_S))
