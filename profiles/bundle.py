"""The agent as it travels: the sources of `runtimes` and `profiles`, named by what is in them.

    code = SHA-256 over (name, length, content) of every source file, in the order of the names

A device keeps one folder per code, so two versions of shoal never share one, and a folder that
was edited there no longer has the code that it is named by.
"""

from __future__ import annotations

import base64
import hashlib
import io
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("profiles", "runtimes")
LONG_AGO = (2020, 1, 1, 0, 0, 0)  # one archive per code, whenever it is made

# Runs on whatever Python there is, before anything of ours is there: finds the agent's folder, or
# has the archive sent and unpacks it beside its place, then becomes the agent. It reads the file
# descriptor itself, because a buffer would swallow the agent's first request.
BOOTSTRAP = r"""
import hashlib, io, json, os, shutil, sys, tempfile, zipfile
def say(**told):
    os.write(1, ("\nshoal " + json.dumps(told) + "\n").encode())
def read(size):
    got = b""
    while len(got) < size:
        piece = os.read(0, min(size - len(got), 1 << 16))
        if not piece:
            sys.exit(4)
        got += piece
    return got
if sys.version_info < (3, 10):
    say(problem="python", found=".".join(map(str, sys.version_info[:3])), path=sys.executable)
    sys.exit(3)
users = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
agents = os.path.join(os.environ.get("SHOAL_CACHE") or os.path.join(users, "shoal"), "agents")
folder = os.path.join(agents, sys.argv[1])
try:
    os.makedirs(agents, 0o700, exist_ok=True)
    wanted = not os.path.isdir(folder)  # asked once: another session may bring it meanwhile
    say(wanted=wanted)
    if wanted:
        size, digest = json.loads(read(80))
        archive = read(size)
        scratch = tempfile.mkdtemp(dir=agents)
        try:
            if hashlib.sha256(archive).hexdigest() != digest:
                raise OSError("the agent was damaged on its way")
            zipfile.ZipFile(io.BytesIO(archive)).extractall(scratch)
            os.rename(scratch, folder)
        except OSError:
            shutil.rmtree(scratch, ignore_errors=True)
            if not os.path.isdir(folder):
                raise
except OSError as e:
    say(problem="disk", found=e.strerror or str(e), path=agents)
    sys.exit(3)
sys.path.insert(0, folder)
from profiles.remote_agent import main
main()
"""


def sources(root: Path = ROOT) -> dict[str, bytes]:
    """By name inside the archive, in order."""
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for package in PACKAGES
        for path in sorted((root / package).rglob("*.py"))
    }


def code_sha256(found: dict[str, bytes]) -> str:
    digest = hashlib.sha256()
    for name, content in found.items():
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


def archive(found: dict[str, bytes]) -> bytes:
    """A zip file of them."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in found.items():
            file.writestr(zipfile.ZipInfo(name, LONG_AGO), content, zipfile.ZIP_DEFLATED)
    return packed.getvalue()


def header(packed: bytes) -> bytes:
    """What the bootstrap reads before the archive: 80 bytes of JSON."""
    digest = hashlib.sha256(packed).hexdigest()
    text = f'[{len(packed)},"{digest}"]'
    assert len(text) <= 80, "an archive of less than 10 GB"
    return text.ljust(80).encode()


def bootstrap_command(python: str, code: str) -> str:
    """For the device's shell, whichever it is: base64 needs no quoting that they disagree in."""
    script = base64.b64encode(BOOTSTRAP.encode()).decode()
    return f"{python} -c 'import base64;exec(base64.b64decode(\"{script}\"))' {code}"
