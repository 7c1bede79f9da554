"""A worker on a device behind ssh; it is asked as one on this machine is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from profiles.remote import Connection
from profiles.ssh import GOODBYE_S
from profiles.worker import checked_answer, worker_request
from runtimes.errors import InputError, NothingMeasured

LATE_S = 10.0  # what the network may add to a worker's own time


class RemoteWorker:
    """A fresh process on the device."""

    def __init__(self, device: Connection):
        self.device = device
        self.number = device.ask("start")["worker"]
        self._places: dict[str, str] = {}  # on the device -> here, for what a runtime says of them

    def __enter__(self) -> RemoteWorker:
        return self

    def __exit__(self, *error: object) -> None:
        """One that died is gone already; with the connection went all of them."""
        try:
            self.device.ask("end", worker=self.number, within_s=GOODBYE_S)
        except (InputError, NothingMeasured):
            return

    def ask(self, do: str, *, within_s: float, **request: Any) -> dict[str, Any]:
        """Send one request and wait for its answer, at most `within_s`."""
        if do == "load":
            network = Path(request.pop("path"))
            request["artifact"], place = self.device.send_artifact(network)
            self._places[place] = str(network)
        asked = worker_request(do, within_s, request)
        try:
            line = self.device.ask_worker(self.number, asked, within_s=within_s + LATE_S)
            return checked_answer(do, line)
        except TimeoutError as e:
            raise NothingMeasured(
                f"the worker on {self.device.host} did not answer {do!r} within {within_s:.0f} s "
                "and is ended"
            ) from e
        except (InputError, NothingMeasured) as e:
            raise type(e)(self._at_home(str(e))) from e

    def _at_home(self, message: str) -> str:
        for there, here in self._places.items():
            message = message.replace(there, here)
        host = self.device.host
        return message if host in message else f"on {host}: {message}"
