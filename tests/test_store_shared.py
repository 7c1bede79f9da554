"""One registry and several processes: made, written and killed at the same time."""

import multiprocessing
import os
import signal
import sqlite3
import threading
import time

import pytest
from test_measurement import measurement

from profiles.store import Store
from runtimes.errors import InputError


def write_many(folder, count, started):
    store = Store(folder)
    started.set()
    for _ in range(count):
        store.add(measurement())
    store.close()


def test_a_writer_killed_in_the_middle_leaves_a_whole_registry(tmp_path):
    """kill -9 while it writes without a pause; every row that is there is whole."""
    context = multiprocessing.get_context("spawn")
    for _ in range(3):
        started = context.Event()
        writer = context.Process(target=write_many, args=(tmp_path, 10**6, started))
        writer.start()
        assert started.wait(30)
        time.sleep(0.1)
        os.kill(writer.pid or 0, signal.SIGKILL)
        writer.join()

    store = Store(tmp_path)

    assert store.connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    before = store.count()
    assert before > 0
    store.add(measurement())
    assert store.count() == before + 1
    store.close()


def test_a_new_registry_that_another_is_just_making_is_waited_for(tmp_path):
    """As sqlite has it, the one that comes second is told at once that the file is locked."""
    other = sqlite3.connect(
        tmp_path / "registry.sqlite", isolation_level=None, check_same_thread=False
    )
    other.execute("BEGIN IMMEDIATE")
    ends = threading.Timer(0.2, other.execute, ["ROLLBACK"])
    ends.start()

    store = Store(tmp_path)

    ends.join()
    assert store.count() == 0
    store.close()
    other.close()


def test_a_registry_that_stays_locked_is_refused_after_a_while(tmp_path, monkeypatch):
    """And closed again: Python 3.13 warns of a connection that is left open."""
    opened, connect = [], sqlite3.connect
    other = connect(tmp_path / "registry.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    monkeypatch.setattr("profiles.store.BUSY_S", 0.1)
    monkeypatch.setattr(
        sqlite3, "connect", lambda *a, **k: opened.append(connect(*a, **k)) or opened[0]
    )

    with pytest.raises(InputError, match="database is locked"):
        Store(tmp_path)

    with pytest.raises(sqlite3.ProgrammingError, match="closed database"):
        opened[0].execute("SELECT 1")
    other.close()


def test_two_processes_write_at_once_and_no_row_is_lost(tmp_path):
    context = multiprocessing.get_context("spawn")
    started = [context.Event(), context.Event()]
    writers = [context.Process(target=write_many, args=(tmp_path, 40, one)) for one in started]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)

    store = Store(tmp_path)

    assert [writer.exitcode for writer in writers] == [0, 0]
    assert store.count() == 80
    store.close()
