"""The registry: measurements, baselines, latency tables in one SQLite file, artifacts beside it.

Write-ahead logging and immediate transactions: a killed writer leaves the last whole state, and
two writers take turns. The schema's version is SQLite's own `user_version`; entry n of
MIGRATIONS leads from version n to n + 1, and a new file runs them all.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from profiles.kept import keep, kept_at
from profiles.measurement import Measurement, measurement_from
from runtimes.errors import InputError, NothingMeasured

ENVIRONMENT = "SHOAL_REGISTRY"
BUSY_S = 30.0
RETRY_S = 0.02
KEPT = timedelta(days=1)  # the parts of an unfinished job
MIGRATIONS = (
    """
    CREATE TABLE measurements (
        id INTEGER PRIMARY KEY,
        measured_at TEXT NOT NULL,
        target TEXT NOT NULL,
        artifact_sha256 TEXT NOT NULL,
        median_ms REAL NOT NULL,
        record TEXT NOT NULL
    );
    CREATE TABLE baselines (
        name TEXT NOT NULL,
        target TEXT NOT NULL,
        measurement INTEGER NOT NULL REFERENCES measurements (id),
        promoted_at TEXT NOT NULL
    );
    """,
    """
    CREATE INDEX measurements_by_artifact ON measurements (target, artifact_sha256);
    CREATE INDEX baselines_by_name ON baselines (name, target);
    ALTER TABLE baselines ADD COLUMN note TEXT;
    """,
    """
    CREATE TABLE calibrations (target TEXT NOT NULL, made_at TEXT NOT NULL, record TEXT NOT NULL);
    """,
    """
    CREATE TABLE latencies (
        conditions TEXT NOT NULL,
        geometry TEXT NOT NULL,
        measured_at TEXT NOT NULL,
        record TEXT NOT NULL,
        PRIMARY KEY (conditions, geometry)
    );
    CREATE TABLE unfinished (
        job TEXT NOT NULL,
        part TEXT NOT NULL,
        made_at TEXT NOT NULL,
        record TEXT NOT NULL,
        PRIMARY KEY (job, part)
    );
    """,
)


@dataclass(frozen=True, slots=True)
class Baseline:
    """What a name stands for on a target: the newest promotion counts."""

    name: str
    target: str
    promoted_at: str
    note: str | None
    artifact: Path
    measurement: Measurement


def registry_folder() -> Path:
    """$SHOAL_REGISTRY, or the user's data folder."""
    own = os.environ.get(ENVIRONMENT)
    data = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(own) if own else Path(data) / "shoal"


class Store:
    """One registry; every call is a transaction of its own."""

    def __init__(self, folder: Path):
        self.folder = folder
        with ExitStack() as refused:
            try:
                folder.mkdir(parents=True, exist_ok=True)
                self.connection = sqlite3.connect(
                    folder / "registry.sqlite", timeout=BUSY_S, isolation_level=None
                )
                refused.callback(self.close)
                self._keep_a_log()
                self._migrate()
            except (OSError, sqlite3.Error) as e:
                raise InputError(
                    f"the registry {folder} cannot be opened ({e}): set ${ENVIRONMENT}"
                ) from e
            refused.pop_all()

    def close(self) -> None:
        self.connection.close()

    def add(self, measurement: Measurement) -> int:
        """Keep a measurement; its number."""
        with self._writing() as database:
            return self._insert(database, measurement)

    def promote(self, name: str, measurement: Measurement, note: str | None = None) -> Baseline:
        """Keep the measurement and its artifact under a name."""
        artifact = keep(measurement.artifact, self.folder)
        now = _now()
        with self._writing() as database:
            number = self._insert(database, measurement)
            database.execute(
                "INSERT INTO baselines (name, target, measurement, promoted_at, note) "
                "VALUES (?, ?, ?, ?, ?)",
                (name, measurement.target, number, now, note),
            )
        return Baseline(name, measurement.target, now, note, artifact, measurement)

    def baseline(self, name: str, target: str) -> Baseline:
        """The newest promotion of that name on that target."""
        row = self.connection.execute(
            "SELECT promoted_at, note, record FROM baselines "
            "JOIN measurements ON measurements.id = measurement "
            "WHERE name = ? AND baselines.target = ? ORDER BY baselines.rowid DESC LIMIT 1",
            (name, target),
        ).fetchone()
        if row is None:
            known = ", ".join(f"{one} on {where}" for one, where in self.names()) or "none"
            raise InputError(
                f"no baseline {name!r} on target {target!r}; there are: {known} "
                "(`shoal promote` stores one)"
            )
        measurement = measurement_from(json.loads(row[2]))
        artifact = kept_at(self.folder, measurement.artifact.sha256)
        return Baseline(name, target, row[0], row[1], artifact, measurement)

    def keep_calibration(self, target: str, record: str) -> None:
        """The JSON of what `shoal calibrate` found."""
        with self._writing() as database:
            database.execute("INSERT INTO calibrations VALUES (?, ?, ?)", (target, _now(), record))

    def calibration(self, target: str) -> dict[str, Any] | None:
        """The newest one of that target, if it was ever calibrated."""
        row = self.connection.execute(
            "SELECT record FROM calibrations WHERE target = ? ORDER BY rowid DESC LIMIT 1",
            (target,),
        ).fetchone()
        return None if row is None else json.loads(row[0])

    def keep_latencies(self, conditions: str, records: Mapping[str, str]) -> None:
        """The JSON of latency table entries by geometry; a newer one replaces an older."""
        with self._writing() as database:
            database.executemany(
                "INSERT OR REPLACE INTO latencies VALUES (?, ?, ?, ?)",
                [(conditions, geometry, _now(), record) for geometry, record in records.items()],
            )

    def latencies(self, conditions: str, geometries: Collection[str]) -> dict[str, str]:
        """Of these geometries the entries that there are under these conditions."""
        wanted = set(geometries)
        rows = self.connection.execute(
            "SELECT geometry, record FROM latencies WHERE conditions = ?", (conditions,)
        )
        return {geometry: record for geometry, record in rows if geometry in wanted}

    def keep_part(self, job: str, part: str, record: str) -> None:
        """What an unfinished job has measured, for when it is asked for again."""
        with self._writing() as database:
            database.execute("DELETE FROM unfinished WHERE made_at < ?", (_now(before=KEPT),))
            database.execute(
                "INSERT OR REPLACE INTO unfinished VALUES (?, ?, ?, ?)", (job, part, _now(), record)
            )

    def part(self, job: str, part: str) -> str | None:
        """None where it was never kept, or so long ago that the device may be another one."""
        row = self.connection.execute(
            "SELECT record FROM unfinished WHERE job = ? AND part = ? AND made_at > ?",
            (job, part, _now(before=KEPT)),
        ).fetchone()
        return None if row is None else row[0]

    def forget_job(self, job: str) -> None:
        """It is finished: the same one again measures again."""
        with self._writing() as database:
            database.execute("DELETE FROM unfinished WHERE job = ?", (job,))

    def names(self) -> list[tuple[str, str]]:
        """(name, target) of every baseline."""
        return self.connection.execute(
            "SELECT DISTINCT name, target FROM baselines ORDER BY name, target"
        ).fetchall()

    def count(self) -> int:
        return self.connection.execute("SELECT count(*) FROM measurements").fetchone()[0]

    def _insert(self, database: sqlite3.Connection, measurement: Measurement) -> int:
        done = database.execute(
            "INSERT INTO measurements (measured_at, target, artifact_sha256, median_ms, record) "
            "VALUES (?, ?, ?, ?, ?)",
            (
                _now(),
                measurement.target,
                measurement.artifact.sha256,
                measurement.median_ms,
                json.dumps(asdict(measurement), default=str),
            ),
        )
        assert done.lastrowid is not None
        return done.lastrowid

    def _keep_a_log(self) -> None:
        """Write-ahead logging, so that readers and a writer do not wait for each other.

        SQLite does not wait, whatever the timeout, where two processes set this on a new file at
        once: each holds what the other needs, and one of them is told at once that it is locked.
        """
        until = time.monotonic() + BUSY_S
        while True:
            try:
                self.connection.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError as e:
                if "locked" not in str(e) or time.monotonic() > until:
                    raise
                time.sleep(RETRY_S)

    def _migrate(self) -> None:
        version = self._version()
        if version > len(MIGRATIONS):
            raise InputError(
                f"the registry {self.folder} has version {version}, this shoal knows "
                f"{len(MIGRATIONS)}: use the newer shoal, or another ${ENVIRONMENT}"
            )
        if version == len(MIGRATIONS):
            return
        with self._writing() as database:
            for number in range(self._version(), len(MIGRATIONS)):
                for statement in MIGRATIONS[number].split(";"):
                    database.execute(statement)
                database.execute(f"PRAGMA user_version = {number + 1}")

    def _version(self) -> int:
        return self.connection.execute("PRAGMA user_version").fetchone()[0]

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        try:
            self.connection.execute("BEGIN IMMEDIATE")
            yield self.connection
            self.connection.execute("COMMIT")
        except sqlite3.Error as e:
            self._roll_back()
            raise NothingMeasured(
                f"the registry {self.folder} could not be written ({e}): nothing was kept"
            ) from e
        except BaseException:
            self._roll_back()
            raise

    def _roll_back(self) -> None:
        if self.connection.in_transaction:  # a full disk has ended it already
            self.connection.execute("ROLLBACK")


def _now(before: timedelta = timedelta(0)) -> str:
    return (datetime.now(timezone.utc) - before).isoformat(timespec="microseconds")
