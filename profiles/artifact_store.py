"""Artifacts on the device, named by what is in them: half of one is never found.

An artifact is a network and the weights that lie beside it. Its name is the SHA-256 of its
manifest, which holds the SHA-256 and the size of each file. Files grow in `<name>.partial`, where
a later session finds how far an earlier one came; when every file is what the manifest says, the
folder gets its name. The folder is the user's own, so nobody else's artifact can be asked for.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from time import time

from runtimes.errors import InputError
from runtimes.onnx_file import read_declared, sha256

NETWORK = "artifact.onnx"
UNUSED_S = 7 * 24 * 3600.0  # what nobody asked for so long is removed


@dataclass(frozen=True, slots=True)
class Piece:
    """One file of an artifact."""

    sha256: str
    size_bytes: int


Manifest = Mapping[str, Piece]


def files_of(network: Path) -> dict[str, Path]:
    """Where each file of the artifact lies here, by its name inside the artifact."""
    outside = {name: network.parent / name for name in read_declared(network).external}
    return {**outside, NETWORK: network}


def manifest_of(files: Mapping[str, Path]) -> dict[str, Piece]:
    return {name: Piece(sha256(path), path.stat().st_size) for name, path in files.items()}


def name_of(manifest: Manifest) -> str:
    text = json.dumps({name: asdict(piece) for name, piece in sorted(manifest.items())})
    return hashlib.sha256(text.encode()).hexdigest()


def checked_manifest(given: Mapping[str, Mapping[str, object]]) -> dict[str, Piece]:
    """Every name inside the artifact's folder, every hash a hash; anything else is refused."""
    manifest = {}
    for name, piece in given.items():
        path = PurePosixPath(name)
        inside = not path.is_absolute() and ".." not in path.parts and str(path) == name != "."
        if not inside or not name.isprintable() or name == "manifest":
            raise InputError(f"{name!r} is no file inside an artifact: give names relative to the "
                             "network's own folder")  # fmt: skip
        found, size = piece.get("sha256"), piece.get("size_bytes")
        if not isinstance(found, str) or not re.fullmatch(r"[0-9a-f]{64}", found):
            raise InputError(f"{found!r} is no SHA-256 of {name}: 64 hexadecimal digits")
        if not isinstance(size, int) or size < 0:
            raise InputError(f"{size!r} is no size of {name} in bytes")
        manifest[name] = Piece(found, size)
    if NETWORK not in manifest:
        raise InputError(f"an artifact has a network, {NETWORK}; this has {', '.join(manifest)}")
    return manifest


@dataclass(frozen=True, slots=True)
class ArtifactStore:
    folder: Path

    def network(self, name: str) -> Path:
        """The file that a runtime loads."""
        return self.folder / name / NETWORK

    def offer(self, manifest: Manifest) -> dict[str, int] | None:
        """How many bytes of each file are here; None when the whole artifact is, intact."""
        name = name_of(manifest)
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if (self.folder / name).is_dir():
            if not self._wrong(self.folder / name, manifest):
                os.utime(self.folder / name)
                return None
            shutil.rmtree(self.folder / name)
        partial = self._partial(name)
        partial.mkdir(exist_ok=True)
        return {one: _size(partial / one) for one in manifest}

    def write(self, manifest: Manifest, file: str, at: int, content: bytes) -> None:
        """Put a piece where it belongs; two sessions that send the same do not disturb."""
        piece = manifest.get(file)
        if piece is None:
            raise InputError(f"{file!r} is no file of this artifact: {', '.join(manifest)}")
        path = self._partial(name_of(manifest)) / file
        here = _size(path)
        if not 0 <= at <= here or at + len(content) > piece.size_bytes:
            raise InputError(f"{len(content)} bytes at {at} of {file} do not follow the {here} of "
                             f"{piece.size_bytes} that are here")  # fmt: skip
        if self.network(name_of(manifest)).parent.is_dir():
            return  # another session was faster
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            while content:
                written = os.pwrite(descriptor, content, at)
                content, at = content[written:], at + written
        finally:
            os.close(descriptor)

    def finish(self, manifest: Manifest) -> tuple[str, ...]:
        """Give the artifact its name; the files that are not what they should be, if any are."""
        name = name_of(manifest)
        partial, place = self._partial(name), self.folder / name
        if place.is_dir():
            return self._wrong(place, manifest)
        wrong = self._wrong(partial, manifest)
        if wrong:
            for file in wrong:
                (partial / file).unlink(missing_ok=True)
            return wrong
        outside = set(read_declared(partial / NETWORK).external) - set(manifest)
        if outside:
            shutil.rmtree(partial)
            raise InputError(f"the network reads {', '.join(sorted(outside))}, which is no file of "
                             "its own artifact")  # fmt: skip
        for file in manifest:
            sync(partial / file)
        try:
            partial.rename(place)
        except OSError:
            if not place.is_dir():  # another session was faster
                raise
        return ()

    def sweep(self, *, now_s: float | None = None) -> None:
        """Remove what has not been asked for in a long time."""
        oldest = (time() if now_s is None else now_s) - UNUSED_S
        for path in self.folder.iterdir() if self.folder.is_dir() else ():
            if path.stat().st_mtime < oldest:
                shutil.rmtree(path, ignore_errors=True)

    def _partial(self, name: str) -> Path:
        return self.folder / f"{name}.partial"

    def _wrong(self, folder: Path, manifest: Manifest) -> tuple[str, ...]:
        return tuple(
            file
            for file, piece in manifest.items()
            if not (folder / file).is_file()
            or _size(folder / file) != piece.size_bytes
            or sha256(folder / file) != piece.sha256
        )


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def sync(path: Path) -> None:
    """A file, or a folder with the names in it, is on the disk when this returns."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
