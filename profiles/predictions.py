"""Which samples two networks got right, read from files; only the same samples ever compare."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from runtimes.errors import InputError


def read_correct(baseline: Path, candidate: Path) -> tuple[np.ndarray, np.ndarray]:
    """Right or wrong per sample: .npz with `predicted` and `labels`, or .npy of 0 and 1."""
    (ours, our_labels), (theirs, their_labels) = (_read(path) for path in (baseline, candidate))
    if ours.shape != theirs.shape:
        raise InputError(
            f"predictions must be of the same samples: {baseline} has {len(ours)}, "
            f"{candidate} has {len(theirs)}"
        )
    if our_labels is not None and their_labels is not None:
        other = int(np.sum(our_labels != their_labels))
        if other:
            raise InputError(
                f"predictions must be of the same samples in the same order: {other} of "
                f"{len(ours)} labels differ between {baseline} and {candidate}"
            )
    return ours, theirs


def _read(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """Which are right, and the labels if the file has them."""
    try:
        stored = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as e:
        raise InputError(f"{path} holds no predictions ({e}): give .npz or .npy") from e
    if isinstance(stored, np.ndarray):
        if stored.ndim != 1 or not np.isin(stored, (0, 1)).all():
            raise InputError(
                f"{path} is to hold one 0 (wrong) or 1 (right) per sample; classes and labels go "
                "into .npz as `predicted` and `labels`"
            )
        return stored.astype(bool), None
    with stored:
        if not {"predicted", "labels"} <= set(stored.files):
            raise InputError(
                f"{path} holds {', '.join(stored.files)}: it needs `predicted` and `labels`"
            )
        predicted, labels = stored["predicted"], stored["labels"]
    if predicted.ndim != 1 or predicted.shape != labels.shape:
        raise InputError(
            f"{path}: `predicted` and `labels` are one class per sample each, not of shapes "
            f"{predicted.shape} and {labels.shape}"
        )
    return predicted == labels, labels
