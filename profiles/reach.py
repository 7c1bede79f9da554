"""Which devices let us in, all asked at once; nothing is sent to them and nothing stays there."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from profiles.ssh import Ssh, explained
from profiles.target import Target
from runtimes.errors import RuntimeUnavailable

WITHIN_S = 15.0  # ssh gives up by itself after 10


def unreachable(targets: Iterable[Target]) -> dict[str, str]:
    """By name, why those behind ssh are not reached; targets on this machine are."""
    behind = {target.name: target.host for target in targets if target.host is not None}
    if not behind:
        return {}
    with ThreadPoolExecutor(len(behind)) as asking:
        reasons = dict(zip(behind, asking.map(_why_not, behind.values()), strict=True))
    return {name: reason for name, reason in reasons.items() if reason is not None}


def _why_not(host: str) -> str | None:
    try:
        ssh = Ssh(host, "true")
    except RuntimeUnavailable as e:
        return str(e)
    try:
        code = ssh.ended(WITHIN_S)
        return explained(host, code, ssh.words()) if code else None
    finally:
        ssh.close()
