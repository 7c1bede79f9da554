"""Every criterion at the same number of removed activations and the same small fine-tuning.

    python tests/benchmarks/criteria_order.py [--networks resnet18 mobilenetv2-half vgg8]
        [--removed 2 4 6 8] [--seeds 0 1 2] [--dense-epochs 4] [--epochs 1] [--train 53000]
        [--dataset fashion-mnist] [--out results/criteria.json]

One-shot: a criterion scores the dense network, removes k sites in its own way (identity, gate,
affine stand-in, pruning) and the result is fine-tuned without distillation. NEPENTHE prunes in one
round with the smallest zeta that leaves k sites idle, which is as gentle as it gets; where no zeta
does (it never severs a network) the row says how many it reached. Beside them the dense network,
fine-tuned as long.
Accuracies are of all test images: untrained after the removal, and after fine-tuning. A run that
was interrupted, or is asked for more networks or seeds, goes on after the rows that `--out` holds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import circumstances
import torch
from torch import fx

from pipeline import criteria
from pipeline.activations import collect
from pipeline.criteria import Evidence
from pipeline.datasets import Split, Splits, cache_folder, load_dataset
from pipeline.edits.surgery import detached_copy
from pipeline.edits.tracing import set_training, sites, trace
from pipeline.finetune import Schedule, accuracy, train
from pipeline.models import build_model
from pipeline.reporting.progress import Reporter

ABOUT = (
    "every criterion one-shot at k removed activations and the same short fine-tuning: "
    "test accuracy before and after it"
)
OUT = Path(__file__).parent / "results" / "criteria.json"
ZETAS = [step / 20 for step in range(1, 20)]
VARIANTS = {
    "easier (paper)": ("easier", {}),
    "easier (code)": ("easier", {"variant": "code"}),
    "nepenthe": ("nepenthe", {}),
    "egp": ("nepenthe", {"variant": "egp"}),
    "tlc": ("tlc", {}),
    "tlc (error)": ("tlc", {"variant": "error"}),
    "residual": ("residual", {}),
    "residual (norm)": ("residual", {"variant": "norm"}),
}


@dataclass(frozen=True, slots=True)
class Row:
    network: str
    seed: int
    criterion: str
    asked: int
    removed: int
    before: float
    after: float
    seconds: float


def evidence(model: fx.GraphModule, split: Split) -> Evidence:
    found = collect(model, split.images.split(250), step=lambda _: None)
    return Evidence(model, found, split)


def reduced(model: fx.GraphModule, splits: Splits, variant: str, count: int) -> fx.GraphModule:
    """With `count` sites fewer, as far as the criterion's own rule gets there."""
    name, options = VARIANTS[variant]
    known = evidence(model, splits.calibration)
    if name != "nepenthe":
        return criteria.make(name, options).reduce(known, count)
    best, left = model, len(sites(model))
    wanted = left - count
    for zeta in ZETAS:
        edited = criteria.make(name, {**options, "zeta": zeta}).reduce(known, count)
        if len(sites(edited)) < left or best is model:
            best, left = edited, len(sites(edited))
        if left <= wanted:
            break
    return best


def tuned(model: fx.GraphModule, split: Split, schedule: Schedule, seed: int) -> fx.GraphModule:
    network = detached_copy(model)
    set_training(network, True)
    train(network, split, schedule, seed=seed, step=lambda _: None)
    set_training(network, False)
    return network


def begun(out: Path, settings: dict[str, object]) -> tuple[list[Row], dict[str, object]]:
    """The rows that `out` holds, of these very settings, and when the first run began."""
    if not out.is_file():
        return [], circumstances.now()
    stored = json.loads(out.read_text())
    if stored["settings"] != settings:
        sys.exit(f"{out} holds a run with {stored['settings']}: give another --out")
    return [Row(**row) for row in stored["rows"]], stored["started"]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--networks", nargs="+", default=["resnet18", "mobilenetv2-half", "vgg8"])
    parser.add_argument("--removed", nargs="+", type=int, default=[2, 4, 6, 8])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--dense-epochs", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--train", type=int, default=53_000, help="images")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--dataset", default="fashion-mnist")
    parser.add_argument("--out", type=Path, default=OUT)
    chosen = parser.parse_args()
    settings = {
        name: getattr(chosen, name)
        for name in ("dataset", "train", "dense_epochs", "epochs", "batch_size")
    }
    rows, started = begun(chosen.out, settings)
    reporter = Reporter()
    splits = load_dataset(chosen.dataset, cache=cache_folder(), reporter=reporter)
    flip = chosen.dataset == "fashion-mnist"
    long = Schedule(chosen.dense_epochs, chosen.batch_size, 0.1, 5e-4, flip=flip)
    short = Schedule(chosen.epochs, chosen.batch_size, 0.02, 5e-4, flip=flip)
    images = splits.train.first(chosen.train)
    plans = [("dense", 0)] + [(v, k) for k in chosen.removed for v in VARIANTS]
    for network, seed in [(n, s) for n in chosen.networks for s in chosen.seeds]:
        done = {(r.criterion, r.asked) for r in rows if (r.network, r.seed) == (network, seed)}
        if done.issuperset(plans):
            continue
        model = build_model(
            network, num_classes=splits.num_classes, in_channels=splits.in_channels, seed=seed
        )
        train(model, images, long, seed=seed, step=lambda _: None)
        dense = trace(model, splits.calibration.images[:2])
        for variant, count in plans:
            if (variant, count) in done:
                continue
            before = time.monotonic()
            edited = reduced(dense, splits, variant, count) if count else dense
            row = Row(
                network,
                seed,
                variant,
                count,
                len(sites(dense)) - len(sites(edited)),
                accuracy(edited, splits.test),
                accuracy(tuned(edited, images, short, seed + 1), splits.test),
                round(time.monotonic() - before, 1),
            )
            rows.append(row)
            reporter.say(
                f"{network} seed {seed} {variant}: {row.removed} of {count} removed, "
                f"{row.before:.4f} -> {row.after:.4f} in {row.seconds} s"
            )
            circumstances.write(
                chosen.out,
                ABOUT,
                f"python tests/benchmarks/criteria_order.py {' '.join(sys.argv[1:])}".strip(),
                started,
                settings=settings,
                rows=[asdict(r) for r in rows],
            )
    show(rows)


def show(rows: list[Row]) -> None:
    """A Markdown table per network: fine-tuned (untrained), each mean (least-most) over seeds."""
    for network in dict.fromkeys(row.network for row in rows):
        mine = [row for row in rows if row.network == network]
        asked = sorted({row.asked for row in mine} - {0})
        dense = [row.after for row in mine if not row.asked]
        print(f"\n{network}: dense, fine-tuned as long, {told(dense)}\n")
        print("| criterion | " + " | ".join(f"k = {k}" for k in asked) + " |")
        print("|---|" + "---:|" * len(asked))
        for variant in dict.fromkeys(row.criterion for row in mine if row.asked):
            cells = []
            for k in asked:
                found = [r for r in mine if r.criterion == variant and r.asked == k]
                counts = sorted({r.removed for r in found})
                reached = "" if counts == [k] else f" ({'-'.join(map(str, counts))} removed)"
                untrained = f" ({told([r.before for r in found])})"
                cells.append(told([r.after for r in found]) + untrained + reached)
            print(f"| {variant} | " + " | ".join(cells) + " |")


def told(values: list[float]) -> str:
    if len(values) == 1:
        return f"{values[0]:.4f}"
    return f"{statistics.mean(values):.4f} ({min(values):.4f}-{max(values):.4f})"


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
