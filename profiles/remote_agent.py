"""The agent on a device: one per session, its requests and answers the two ends of one ssh.

It holds what must be held on the device itself: the lock, for as long as its client is heard; the
artifacts, which it loads by name and only when this session has offered them; and the workers,
fresh processes whose lines it passes on. It never times anything, so the network is in no number.
When the client closes its end, or is not heard for a minute, workers and lock go with the agent.
"""

from __future__ import annotations

import base64
import binascii
import importlib.util
import json
import os
import selectors
import signal
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from profiles.artifact_store import ArtifactStore, Manifest, checked_manifest, name_of
from profiles.bundle import ROOT, code_sha256, sources
from profiles.device_lock import holder, lock_file, open_lock, sign, try_lock
from profiles.environment import fingerprint
from profiles.worker import Lines, Worker
from runtimes.engine_cache import cache_folder
from runtimes.errors import InputError, RuntimeUnavailable

PROTOCOL = 1
SILENCE_S = 60  # a client is heard every few seconds
LONGEST_LINE = 1 << 20
LONGEST_REQUEST = 1 << 15  # of a worker: fits its pipe, so passing it on never blocks

Request = Mapping[str, Any]
Answer = dict[str, Any]


class RemoteAgent:
    """The state of one session."""

    def __init__(self, store: ArtifactStore, answers: int):
        self.store = store
        self.answers = answers
        self.lock: int | None = None
        self.workers: dict[int, Worker] = {}
        self.started = 0
        self.asked: dict[int, Any] = {}  # worker -> id of the request that it works on
        self.offered: dict[str, Manifest] = {}
        self.ready: set[str] = set()  # of those offered, whole and intact
        self.selector = selectors.DefaultSelector()
        self.verbs: dict[str, Callable[[Request], Answer | None]] = {
            "ping": lambda _request: None,
            "lease": self.lease,
            "release": self.release,
            "offer": self.offer,
            "piece": self.piece,
            "finish": self.finish,
            "start": self.start,
            "ask": self.ask,
            "end": self.end,
        }

    def serve(self, requests: Lines) -> None:
        """Answer until the client closes its end or breaks the rules of a line."""
        self.selector.register(requests.descriptor, selectors.EVENT_READ)
        while True:
            for key, _ in self.selector.select():
                if key.data is not None:
                    self.pass_on(key.data)
                    continue
                if not requests.read():
                    return
                signal.alarm(SILENCE_S)
                while (line := requests.pop()) is not None and len(line) <= LONGEST_LINE:
                    self.handle(line)
                if line is not None or requests.waiting_bytes > LONGEST_LINE:
                    self.say(None, _refusal("request", f"a line of more than {LONGEST_LINE} bytes"))
                    return

    def handle(self, line: bytes) -> None:
        """One request; an error is an answer too, and the session goes on."""
        number = None
        try:
            request = json.loads(line)
            number = request.get("id")
            verb = self.verbs.get(request.get("do"))
            if verb is None:
                raise InputError(f"no request {request.get('do')!r}; there are: "
                                 f"{', '.join(self.verbs)}")  # fmt: skip
            answer = verb(request)
        except RuntimeUnavailable as e:
            self.say(number, _refusal("unavailable", str(e)))
        except InputError as e:
            self.say(number, _refusal("input", str(e)))
        except OSError as e:
            where = e.filename or self.store.folder
            self.say(number, _refusal("disk", f"{e.strerror} ({where})"))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as e:
            self.say(number, _refusal("request", f"{type(e).__name__}: {e}"))
        else:
            if answer is not None:
                self.say(number, {"ok": answer})

    def say(self, number: Any, answer: Answer) -> None:
        line = json.dumps({"id": number, **answer}).encode() + b"\n"
        while line:
            line = line[os.write(self.answers, line) :]

    def lease(self, request: Request) -> Answer:
        """Try once; `holder` is null when it was got."""
        if self.lock is None:
            descriptor = open_lock(lock_file())
            if not try_lock(descriptor):
                os.close(descriptor)
                return {"holder": holder(lock_file())}
            self.lock = descriptor
            sign(descriptor, str(request["user"]), str(request["what"]))
            return {"holder": None}
        raise InputError("this session holds the device already: release it first")

    def release(self, _request: Request) -> Answer:
        """A worker that is still there keeps the device until it ends: it may be computing."""
        if self.lock is not None:
            os.close(self.lock)
            self.lock = None
        return {}

    def offer(self, request: Request) -> Answer:
        manifest = checked_manifest(request["manifest"])
        name = name_of(manifest)
        here = self.store.offer(manifest)
        self.offered[name] = manifest
        if here is None:
            self.ready.add(name)
        return {"artifact": name, "here": here, "network": str(self.store.network(name))}

    def piece(self, request: Request) -> Answer:
        try:
            content = base64.b64decode(request["bytes"], validate=True)
        except binascii.Error as e:
            raise InputError(f"the bytes of a piece are base64: {e}") from e
        self.store.write(self._offered(request), request["file"], request["at"], content)
        return {}

    def finish(self, request: Request) -> Answer:
        wrong = self.store.finish(self._offered(request))
        if not wrong:
            self.ready.add(request["artifact"])
        return {"wrong": wrong}

    def start(self, _request: Request) -> Answer:
        """A fresh worker; it keeps the lock, lest a successor measures beside its last block."""
        worker = Worker(keeps=[] if self.lock is None else [self.lock])
        self.started += 1
        self.workers[self.started] = worker
        self.selector.register(worker.lines.descriptor, selectors.EVENT_READ, self.started)
        return {"worker": self.started}

    def ask(self, request: Request) -> None:
        """Pass a request on; its answer comes when it comes."""
        number, asked = request["worker"], dict(request["request"])
        worker = self._worker(number)
        if number in self.asked:
            raise InputError(f"worker {number} is still busy with an earlier request")
        if asked.get("do") == "load":
            asked["path"] = self._path(asked)
        line = json.dumps(asked)
        if len(line) > LONGEST_REQUEST:
            raise InputError(f"a request of {len(line)} bytes: at most {LONGEST_REQUEST}")
        self.asked[number] = request.get("id")
        try:
            worker.send(line)
        except BrokenPipeError:
            self.pass_on(number)

    def end(self, request: Request) -> Answer:
        self._worker(request["worker"])
        self._drop(request["worker"])
        return {}

    def pass_on(self, number: int) -> None:
        """What a worker said, or that it died."""
        worker = self.workers[number]
        alive = worker.lines.read()
        while (line := worker.lines.pop()) is not None:
            self.say(self.asked.pop(number, None), {"ok": {"line": line.decode(errors="replace")}})
        if not alive:
            if number in self.asked:
                self.say(self.asked.pop(number), _refusal("died", worker.end()))
            self._drop(number)

    def close(self) -> None:
        for number in tuple(self.workers):
            self._drop(number)

    def _drop(self, number: int) -> None:
        worker = self.workers.pop(number)
        self.asked.pop(number, None)
        self.selector.unregister(worker.lines.descriptor)
        worker.__exit__()

    def _worker(self, number: Any) -> Worker:
        if number not in self.workers:
            raise InputError(f"no worker {number!r}: it ended or was never started")
        return self.workers[number]

    def _offered(self, request: Request) -> Manifest:
        if request["artifact"] not in self.offered:
            raise InputError(f"artifact {request['artifact']!r} was not offered in this session")
        return self.offered[request["artifact"]]

    def _path(self, asked: Request) -> str:
        """Of an artifact by its name, never of anything else."""
        if "path" in asked:
            raise InputError(f"no path is loaded here, {asked['path']!r} neither: offer the "
                             "artifact, and give its name")  # fmt: skip
        name = asked.get("artifact")
        if name not in self.ready:
            raise InputError(f"artifact {name!r} was not offered in this session, or not sent to "
                             "its end")  # fmt: skip
        return str(self.store.network(name))


def _refusal(kind: str, message: str) -> Answer:
    return {"error": {"kind": kind, "message": message}}


def hello() -> Answer:
    """What the client checks before it asks for anything."""
    return {
        "protocol": PROTOCOL,
        "code": code_sha256(sources()),
        "folder": str(ROOT),
        "numpy": importlib.util.find_spec("numpy") is not None,
        "host": asdict(fingerprint()),
    }


def main() -> None:
    """Keep stdout for answers; whoever is not heard is gone."""
    private = os.dup(1)
    os.dup2(2, 1)
    os.umask(0o077)
    os.chdir(ROOT)  # a worker's `-m` looks here first, not in the user's home
    store = ArtifactStore(cache_folder("artifacts"))
    agent = RemoteAgent(store, private)

    def unheard(*_: object) -> None:
        agent.close()
        os._exit(1)

    signal.signal(signal.SIGALRM, unheard)
    signal.signal(signal.SIGTERM, unheard)
    signal.alarm(SILENCE_S)
    os.write(private, f"\nshoal {json.dumps(hello())}\n".encode())
    try:
        store.sweep()
        agent.serve(Lines(0))
    except BrokenPipeError:
        return  # the client is gone
    finally:
        agent.close()
