"""What the statistics pass costs beside a plain forward pass, and beside per-batch entropy hooks.

    python tests/benchmarks/statistics_cost.py [--rounds 15]

torchvision's ResNet-18 on 64 images of 3x64x64, one thread. The three are interleaved, the ratios
are medians of CPU time over rounds. The limit for ours is 1.25.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from statistics import median

import torch
import torchvision
from torch import Tensor, nn

from pipeline.activations import collect
from pipeline.edits.tracing import trace

LIMIT = 1.25


def entropy_hooks(model: nn.Module, images: Tensor) -> dict[str, float]:
    """The straightforward way: a hook on every ReLU, ON rates and entropies of this batch."""
    entropies: dict[str, float] = {}

    def watch(name: str) -> Callable[[nn.Module, tuple[Tensor], Tensor], None]:
        def hook(_: nn.Module, inputs: tuple[Tensor], __: Tensor) -> None:
            on = (inputs[0] >= 0).float().mean(0).flatten(1).mean(1)  # (channels,)
            off = 1 - on
            logs = [p * torch.log2(p.clamp(min=1e-10)) for p in (on, off)]
            entropies[name] = float(-(logs[0] + logs[1]).mean())

        return hook

    relus = [(n, m) for n, m in model.named_modules() if isinstance(m, nn.ReLU)]
    hooks = [module.register_forward_hook(watch(name)) for name, module in relus]
    model(images)
    for hook in hooks:
        hook.remove()
    return entropies


def seconds(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    torch.manual_seed(0)
    images = torch.randn(64, 3, 64, 64)
    model = torchvision.models.resnet18().eval()
    hooked = torchvision.models.resnet18().eval()
    for module in hooked.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False  # otherwise its hook would see the rectified tensor
    traced = trace(model, images[:2])
    works = {
        "plain forward": lambda: model(images),
        "entropy hooks": lambda: entropy_hooks(hooked, images),
        "statistics": lambda: collect(traced, [images], step=lambda _: None),
    }
    taken: dict[str, list[float]] = {name: [] for name in works}
    for round_ in range(rounds + 2):
        for name, work in works.items():
            found = seconds(work)
            if round_ >= 2:  # the first two warm up
                taken[name].append(found)
    plain = taken["plain forward"]
    for name, times in taken.items():
        ratios = [t / p for t, p in zip(times, plain, strict=True)]
        print(f"{name:15} {median(times) * 1e3:8.1f} ms  {median(ratios):.3f}x plain")
    ratio = median(t / p for t, p in zip(taken["statistics"], plain, strict=True))
    print(f"statistics cost {ratio:.3f}x a plain forward pass; the limit is {LIMIT}")


if __name__ == "__main__":
    main()
