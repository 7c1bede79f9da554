"""An aarch64 Python with ONNX Runtime and OpenVINO on this machine, run by qemu-user.

    python tests/arm64.py        prepares it, 300 MB in $SHOAL_ARM64 or ~/.cache/shoal/arm64

Debian's arm64 packages are fetched with an apt state of their own and unpacked into a folder, and
the index's aarch64 wheels beside them: nothing is installed, no architecture is added. What comes
out is a script, `python`, that a target file may name; the Python within takes it for itself, so
that a process it starts by `sys.executable` is run by qemu too.

Under qemu-user /proc and /sys are the x86 host's, and both runtimes read the CPU there: ONNX
Runtime 1.28 and newer crash at import on what they find. qemu opens a file below `-L` first, so
the root holds what the kernel would say of a Cortex-A72, the CPU that qemu is told to be.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path

QEMU = "qemu-aarch64-static"
NEEDED = (QEMU, "apt-get", "dpkg-deb")
DEBIAN = ("python3-minimal", "libpython3-stdlib", "libstdc++6")
WHEELS = ("numpy", "onnxruntime", "openvino")
CPUINFO = """processor\t: {core}
BogoMIPS\t: 125.00
Features\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 cpuid
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x0
CPU part\t: 0xd08
CPU revision\t: 3

"""
MIDR = "0x00000000410fd083\n"  # the same, as the register has it
SCRIPT = """#!/bin/sh
here=$(cd "$(dirname "$0")" && pwd)
exec {qemu} -cpu cortex-a72 -L "$here/../.." -0 "$here/python" "$here/python3" "$@"
"""
PLACE = Path("root/usr/bin/python")  # beside the real one, or it would not find its library


class NotPossible(Exception):
    """It cannot be prepared here; the message says what is missing."""


def versions() -> list[str]:
    """This environment's own, so that both sides run the same release."""
    return [f"{name}=={metadata.version(name)}" for name in WHEELS]


def folder() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    chosen = Path(os.environ.get("SHOAL_ARM64") or Path(cache) / "shoal" / "arm64")
    return chosen / "-".join(versions()).replace("==", "-")


def python() -> Path | None:
    """The prepared script, or None."""
    script = folder() / PLACE
    return script if script.is_file() and shutil.which(QEMU) else None


def prepare() -> Path:
    """The script; made once, whole or not at all."""
    if (there := python()) is not None:
        return there
    absent = [name for name in NEEDED if shutil.which(name) is None]
    if absent:
        raise NotPossible(f"needs {', '.join(absent)}: on Debian, apt-get install qemu-user-static")
    target = folder()
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".making-") as making:
        made = Path(making) / "made"
        made.mkdir()
        _debian(Path(making) / "apt", made / "root")
        _wheels(Path(making) / "wheels", made / "root")
        _describe_cpu(made / "root")
        script = made / PLACE
        script.write_text(SCRIPT.format(qemu=QEMU))
        script.chmod(0o755)
        if not target.exists():
            made.rename(target)
    return target / PLACE


def _debian(state: Path, root: Path) -> None:
    """What the Python needs of Debian's own release for arm64, unpacked."""
    (state / "lists" / "partial").mkdir(parents=True)
    (state / "cache" / "archives" / "partial").mkdir(parents=True)
    (state / "status").touch()
    sources = Path("/etc/apt/sources.list.d/debian.sources")
    options = {
        "APT::Architecture": "arm64",
        "APT::Architectures": "arm64",
        "APT::Sandbox::User": "root",
        "Dir::State": state,
        "Dir::State::status": state / "status",
        "Dir::Cache": state / "cache",
        "Dir::Etc::sourcelist": sources if sources.is_file() else "/etc/apt/sources.list",
        "Dir::Etc::sourceparts": "/dev/null",
    }
    apt = ["apt-get", "-qq", *(f"-o{name}={value}" for name, value in options.items())]
    _run(*apt, "update")
    _run(*apt, "install", "--yes", "--download-only", "--no-install-recommends", *DEBIAN)
    for package in sorted((state / "cache" / "archives").glob("*.deb")):
        _run("dpkg-deb", "--extract", str(package), str(root))


def _wheels(downloaded: Path, root: Path) -> None:
    release = (root / "usr/bin/python3").readlink().name.removeprefix("python")
    glibc = int(platform.libc_ver()[1].partition(".")[2])  # Debian's release is this machine's
    tags = ["manylinux2014", *(f"manylinux_2_{minor}" for minor in range(17, glibc + 1))]
    platforms = (part for tag in tags for part in ("--platform", f"{tag}_aarch64"))
    _run(
        sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "install",
        "--no-deps", "--only-binary=:all:", "--python-version", release, *platforms,
        "--no-compile", "--target", str(root / "usr/lib/python3/dist-packages"),
        "--cache-dir", str(downloaded), *versions(),
    )  # fmt: skip


def _describe_cpu(root: Path) -> None:
    cores = range(os.cpu_count() or 1)
    (root / "proc").mkdir()
    (root / "proc/cpuinfo").write_text("".join(CPUINFO.format(core=core) for core in cores))
    for core in cores:
        register = root / f"sys/devices/system/cpu/cpu{core}/regs/identification/midr_el1"
        register.parent.mkdir(parents=True)
        register.write_text(MIDR)


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise NotPossible(f"{command[0]} failed: {done.stderr.strip()[-600:]}")


if __name__ == "__main__":
    try:
        print(prepare())
    except NotPossible as e:
        sys.exit(f"no aarch64 Python: {e}")
