"""The artifacts of the registry: copies by content, each whole or not there at all."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from runtimes.base import Artifact
from runtimes.errors import InputError, NothingMeasured
from runtimes.onnx_file import content_sha256, read_declared

MODEL = "model.onnx"


def kept_at(registry: Path, digest: str) -> Path:
    """A file, or in a folder of its own with the weights that it keeps beside it."""
    folder = registry / "artifacts" / digest
    return folder / MODEL if folder.is_dir() else folder.with_name(f"{digest}.onnx")


def keep(artifact: Artifact, registry: Path) -> Path:
    """Copy it, as it was when it was measured; where it is kept."""
    source, digest = artifact.path, artifact.sha256
    artifacts = registry / "artifacts"
    try:
        artifacts.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=artifacts) as folder:
            copy = Path(folder) / digest
            weights = copy_whole(source, copy)
            if content_sha256(copy / MODEL, weights) != digest:
                raise InputError(
                    f"{source} has changed since it was measured: measure it again and promote that"
                )
            if not weights:
                (copy / MODEL).replace(artifacts / f"{digest}.onnx")
            elif not (artifacts / digest).is_dir():
                copy.replace(artifacts / digest)
    except OSError as e:
        raise NothingMeasured(
            f"{source} could not be copied to the registry {registry} ({e.strerror}): "
            "nothing was promoted"
        ) from e
    return kept_at(registry, digest)


def copy_whole(source: Path, folder: Path) -> tuple[str, ...]:
    """Copy the file as MODEL and its weights under their own names, which are returned."""
    weights = read_declared(source).external
    for name, place in ((source.name, MODEL), *((name, name) for name in weights)):
        into = (folder / place).resolve()
        if not into.is_relative_to(folder.resolve()):
            raise InputError(f"{source} keeps weights in {name}, outside of its own folder")
        into.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source.parent / name, into)
    return weights
