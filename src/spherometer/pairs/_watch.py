"""Processes that die or freeze while the others wait for them: all leave, and say which it was.

A lost process would be waited for as long as the group of torch.distributed allows, half an hour, and then
no message says who it was. So every process beats once a second in the store of the group, however long its
work takes, and watches the beats of the next one. Who misses them tells all through the store, and each
breaks off the exchange it waits in. Where processes share a machine, one that has ended is seen at once.

The time counts while this process runs: one that was stopped itself, or a laptop that slept, blames nobody.
"""

from __future__ import annotations

import atexit
import os
import signal
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import distributed

from spherometer import _checks
from spherometer.errors import LostProcessError

LIMIT = 15.0  # seconds without a sign of life
_PERIOD = 1.0  # seconds between two beats
_AWAY = 5.0  # seconds between two looks after which this process has not been running itself
_ENDED, _SILENT = "the end of its process", "no sign of life for {:.0f} seconds"

_number = 0  # of the watches of this process; all processes of a group have the same
_latest: _Watch | None = None


def start_watch() -> None:
    """Begin to beat and to watch, if there are several processes and this one does not yet."""
    _watch_of_group()


def told_to_end(function: str) -> None:
    """Before this process ends because it was told to: torchrun tells all when one has died.

    Raises:
        LostProcessError: so it is.
    """
    watch = _latest
    if watch is None or watch.stopped.is_set():
        return
    if watch.looks():
        _refuse(function, watch)
    with suppress(RuntimeError):
        watch.store.set(f"who/{watch.rank}", "")  # nobody to blame


@contextmanager
def exchanging(function: str) -> Iterator[None]:
    """Around exchanges of the default group: a lost process becomes one error that names it.

    Args:
        function: whose name the message carries.

    Raises:
        LostProcessError: another process has died, or given no sign of life for 15 seconds.
    """
    watch = _watch_of_group()
    if watch is None:
        yield
        return
    if watch.lost is None:
        watch.inside += 1
        try:
            yield
        except RuntimeError as error:
            if not _broken_off(error) or not watch.finds():
                raise
        finally:
            watch.inside -= 1
    if watch.lost is not None:
        _refuse(function, watch)


def _broken_off(error: RuntimeError) -> bool:
    """Whether an exchange failed for want of a partner, not by what it was given."""
    words = str(error)
    return isinstance(error, distributed.DistError) or any(
        word in words for word in ("gloo", "pair closure", "Connection", "NCCL", "abort")
    )


def _refuse(function: str, watch: _Watch) -> None:
    watch.leaves()
    who, reason = (watch.lost or "").split(" ", 1)
    _checks.refuse(
        LostProcessError, function, f"rank {who} of {watch.world}", "live until all are done",
        "each takes a share of the work", reason, "See what it said last, and start all again",
    )  # fmt: skip


def _watch_of_group() -> _Watch | None:
    global _latest, _number
    if not distributed.is_available() or not distributed.is_initialized():
        return None
    group = distributed.group.WORLD
    if group is None or group.size() == 1:
        return None
    if _latest is None or _latest.group() is not group or _latest.pid != os.getpid():
        if _latest is not None:
            _latest.stopped.set()
        _number += 1
        _latest = _Watch(group, _number)
    return _latest


class _Watch:
    """What this process knows of the others.

    Attributes:
        inside: exchanges that wait now.
        lost: number of the lost process and why it is taken for lost, as one text; None: all live.
    """

    def __init__(self, group: Any, number: int) -> None:
        self.group, self.pid = weakref.ref(group), os.getpid()
        self.rank, self.world = group.rank(), group.size()
        self.inside, self.left = 0, False
        self.lost: str | None = None
        self.stopped = threading.Event()
        self.agent = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
        store = distributed.distributed_c10d._get_default_store()
        with suppress(RuntimeError, AttributeError):  # a connection of its own: another one may wait for long
            store = store.clone()  # type: ignore[attr-defined]
        self.store = distributed.distributed_c10d.PrefixStore(f"spherometer/{number}", store)
        self.next = (self.rank + 1) % self.world
        self.lap = time.monotonic()  # when the store answered last
        self.threads = [
            threading.Thread(target=work, daemon=True, name=f"spherometer-{work.__name__}")
            for work in (self._beat, self._guard)
        ]
        with suppress(RuntimeError):  # a store that is gone is noticed there
            self.store.set(f"who/{self.rank}", _myself())
        for thread in self.threads:
            thread.start()
        atexit.register(self._end)

    def _end(self) -> None:
        self.stopped.set()
        for thread in self.threads:
            thread.join(1.0)

    def _over(self) -> bool:
        return self.stopped.is_set() or distributed.group.WORLD is not self.group()

    def _beat(self) -> None:
        """Beat, read the beats of the next process and what others found."""
        seen, since, count = b"", time.monotonic(), 0
        try:
            while not self._over() and self.lost is None:
                count += 1
                self.store.set(f"beat/{self.rank}", str(count))
                now = time.monotonic()
                beat = self._get(f"beat/{self.next}")
                if beat != seen or now - self.lap > _AWAY:
                    seen, since = beat, now
                self.lap = now
                if (found := self._get("lost")) != b"":
                    self.lost = found.decode()
                elif self._has_ended(self.next):
                    self._announce(self.next, _ENDED)
                elif seen and now - since > LIMIT:
                    self._announce(self.next, _SILENT.format(LIMIT))
                    _wake(self._get(f"who/{self.next}").decode())
                self.stopped.wait(_PERIOD)
        except RuntimeError:
            if not self._over():
                self._store_is_gone()

    def _store_is_gone(self) -> None:
        if not self.agent and self.lost is None:
            self.lost = f"0 {_ENDED}"  # which kept it

    def _guard(self) -> None:
        """Break off what waits for a lost process; nothing here waits for anybody."""
        last = time.monotonic()
        while not self._over():
            now = time.monotonic()
            if now - last > _AWAY:
                self.lap = now
            last = now
            if self.lost is None and now - self.lap > LIMIT and not self.agent:
                self.lost = f"0 {_SILENT.format(LIMIT)}"  # it keeps the store
            if self.lost is not None and self.inside:
                self._break_off()
            self.stopped.wait(_PERIOD / 4)

    def _break_off(self) -> None:
        """End the exchange that the other threads wait in, with an error there."""
        group, lost = self.group(), int((self.lost or "0").split()[0])
        with suppress(RuntimeError, AttributeError):
            if distributed.get_backend() == "gloo":
                # a receive that runs out of time closes all connections of the group
                work = distributed.irecv(torch.empty(1), src=lost, tag=1)
                if work is not None:
                    work.wait(timedelta(milliseconds=10))
            elif group is not None:
                group.abort()
        del group

    def _get(self, key: str) -> bytes:
        return bytes(self.store.get(key)) if self.store.check([key]) else b""

    def _announce(self, rank: int, reason: str) -> None:
        """Tell all; the first to find one is right, because those who know leave."""
        if self.store.add("found", 1) == 1:
            self.store.set("lost", f"{rank} {reason}")
        self.lost = bytes(self.store.get("lost")).decode()

    def _has_ended(self, rank: int) -> bool:
        """Whether a process of this machine is no more; False where that cannot be said."""
        return _is_no_more(self._get(f"who/{rank}").decode())

    def looks(self) -> bool:
        """Whether it is known who was lost, or can be seen on this machine."""
        try:
            ended = [rank for rank in range(self.world) if rank != self.rank and self._has_ended(rank)]
            # those who left because they knew have told it before
            if self.lost is None and (found := self._get("lost")) != b"":
                self.lost = found.decode()
            elif self.lost is None and ended:
                self._announce(ended[0], _ENDED)
        except RuntimeError:
            self._store_is_gone()
        return self.lost is not None

    def finds(self) -> bool:
        """Wait until it is known who was lost; False if it does not come out."""
        until = time.monotonic() + LIMIT + 4 * _PERIOD
        while not self.looks() and time.monotonic() < until:
            time.sleep(0.05)
        return self.lost is not None

    def leaves(self) -> None:
        """Let the others know before this process, which may keep the store, is gone too."""
        if self.left:
            return
        self.left, until = True, time.monotonic() + 5 * _PERIOD
        if (self.lost or "").startswith("0 "):
            return  # its store may not answer
        with suppress(RuntimeError):
            told = self.store.add("told", 1)
            while self.rank == 0 and not self.agent and told < self.world - 1 and time.monotonic() < until:
                time.sleep(0.05)
                told = self.store.add("told", 0)


def _myself() -> str:
    """This process as others on this machine can find it; empty where that is not known how."""
    try:
        machine = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{machine} {os.readlink('/proc/self/ns/pid')} {os.getpid()} {_started(os.getpid())}"
    except (OSError, IndexError):
        return ""


def _started(pid: int) -> str:
    """When a process was started; empty if it has ended."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return "" if fields[0] in "ZX" else fields[19]


def _wake(who: str) -> None:
    """Let a stopped process of this machine go on, so that it leaves too: it is named, and reads that.

    A stopped one does not act on the signal by which a launcher ends the rest; torchrun waits half a minute.
    """
    parts, mine = who.split(), _myself().split()
    if len(parts) != 4 or parts[:2] != mine[:2] or parts[2] == mine[2]:
        return
    with suppress(OSError, ValueError, IndexError):
        pid = int(parts[2])
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        if fields[0] == "T" and fields[19] == parts[3]:
            os.kill(pid, signal.SIGCONT)


def _is_no_more(who: str) -> bool:
    parts, mine = who.split(), _myself().split()
    if len(parts) != 4 or parts[:2] != mine[:2]:
        return False
    try:
        return _started(int(parts[2])) != parts[3]
    except FileNotFoundError:
        return True
    except (OSError, ValueError, IndexError):
        return False
