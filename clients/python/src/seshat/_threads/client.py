"""The client for threads."""

from __future__ import annotations

from collections.abc import Iterable
from typing import overload

from seshat._core import messages
from seshat._core.belongings import Belongings
from seshat._core.call import Caller, Repeat, probe
from seshat._core.claim import Asked
from seshat._core.nodes import Nodes
from seshat._core.observe import Observer, inspect
from seshat._core.options import Options, Seconds, endpoints, seconds
from seshat._core.scan import Query, whole
from seshat._core.session import open_living, open_session
from seshat._core.watch import Watched, WatchReader
from seshat._core.writes import Issuer
from seshat._threads.calls import Calls
from seshat._threads.runtime import Threads
from seshat._threads.sessions import LivingSession, Lock, Session, held
from seshat._threads.streams import Holders, Mirror, Scan, Updates
from seshat.kv.v1 import txn_pb2
from seshat.updates import Position
from seshat.values import (
    Data,
    Keys,
    LockState,
    NotAcquired,
    data,
)

_LOCK_TTL = 10.0


class Client(Calls):
    """A client of one cluster, for threads: see `AsyncClient` for an event loop.

    It connects when it is first used, finds the leader, and follows it. All threads of a program may share one. It
    cannot be used in a process that was forked after it was made. Close it at the end, or use it in a
    ``with`` statement: that ends its sessions and locks, too.
    """

    def __init__(
        self,
        endpoints_: str | Iterable[str],
        *,
        timeout: Seconds = 5.0,
        attempt_timeout: Seconds = 1.0,
        trust: Seconds = 1.0,
        only_cluster: int | None = None,
    ) -> None:
        """`endpoints_` are nodes, as ``host:port``: several, or one text with commas.

        `timeout` is for each whole call, searches and retries included. One node may take `attempt_timeout` before
        another one is tried, where a retry is safe. An answer of the leader is trusted for `trust`: after that a
        read goes ahead of a write that is sent once. `only_cluster`: the client uses no other cluster, not even one
        that an operator recovers from it.
        """
        texts = [endpoints_] if isinstance(endpoints_, str) else endpoints_
        options = Options(
            timeout=seconds(timeout),
            attempt_timeout=seconds(attempt_timeout),
            trust=seconds(trust),
            cluster=only_cluster,
        )
        threads = Threads()
        nodes = Nodes(endpoints(texts), options, threads)
        super().__init__(Issuer(Caller(nodes, options.timeout)), threads, Belongings(), None)

    @property
    def cluster(self) -> int | None:
        """The id of the cluster, once a node has answered.

        A change means that an operator has recovered another one from it: writes that were acknowledged before may
        be lost. It is logged, too (`logging.getLogger("seshat")`).
        """
        return self._issuer.caller.nodes.cluster

    def ready(self) -> None:
        """Waits until a leader serves requests. Raises `Error`."""
        self._run(self._issuer.caller.call(Repeat.READ, probe))

    def close(self) -> None:
        """Ends its sessions, locks, watches and pipelines, and closes all connections."""
        self._belongings.end()
        self._threads.drain(self._issuer.caller.timeout)
        self._issuer.caller.nodes.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def scan(self, keys: Keys = b"", *, limit: int | None = None, keys_only: bool = False) -> Scan:
        """Reads the keys of a range (a prefix, or a `KeyRange`) in ascending order, all of one moment.

        ``for entry in client.scan("user/")`` takes them one by one, in bounded memory; `Scan.collect` all at once.
        `keys_only` leaves out the values.
        """
        return Scan(self, Query(keys, limit, keys_only))

    def count(self, keys: Keys = b"") -> int:
        """The number of keys in a range. Raises `Error`."""
        return self._run(whole(self._issuer.caller, Query(keys, count_only=True)))[1]

    def watch(
        self,
        keys: Keys = b"",
        *,
        keys_only: bool = False,
        progress_interval: Seconds = 5.0,
        min_revision: int = 0,
        resume: Position | None = None,
    ) -> Updates:
        """Watches a range of keys: first the state, then every change, in the order of revisions.

        It shows no state before `min_revision`, such as that of a write of the caller. `resume`: the caller has
        kept its map, which stands there. A node that says nothing for three progress intervals counts as lost.
        """
        watched = Watched(messages.key_range(keys), keys_only, seconds(progress_interval))
        return Updates(self, WatchReader(self._issuer.caller, watched, resume, min_revision))

    def watch_key(self, key: Data, *, progress_interval: Seconds = 5.0, min_revision: int = 0) -> Updates:
        """As `watch`, for a single key."""
        watched = Watched(txn_pb2.KeyRange(key=data(key)), False, seconds(progress_interval))
        return Updates(self, WatchReader(self._issuer.caller, watched, None, min_revision))

    def mirror(self, keys: Keys = b"", *, keys_only: bool = False, min_revision: int = 0) -> Mirror:
        """A copy of a range that follows its changes, once it is complete: see `watch`. Raises `Error`."""
        return Mirror(self.watch(keys, keys_only=keys_only, min_revision=min_revision))

    @overload
    def session(self) -> Session: ...

    @overload
    def session(self, *, ttl: Seconds) -> LivingSession: ...

    def session(self, *, ttl: Seconds | None = None) -> Session:
        """Opens a session: each of its writes is applied once, however often it has to be sent.

        With a `ttl` (2 s to 1 h; 10 s is a good choice) it *lives*: it may own keys and hold locks, and ends when its
        client has not renewed it for so long. A thread of the client does that. Raises `Error`.
        """
        caller = self._issuer.caller
        if ttl is None:
            opened = self._run(open_session(caller))
            return Session(opened.issuer(caller), self._threads, self._belongings, self._cancellation)
        living, issuer = self._run(open_living(caller, ttl))
        session = LivingSession(issuer, self._threads, self._belongings, self._cancellation)
        return session._live(living)

    def lock(self, name: str, *, value: Data = b"", ttl: Seconds = _LOCK_TTL) -> Lock:
        """Acquires a lock with a living session of its own, which ends with the lock.

        Waits as long as it takes. Others see `value`. Raises `Error`: the lock is not held, and nothing
        is left of the attempt.
        """
        return held(self._claim(Asked(name, data(value)), ttl))

    def try_lock(
        self, name: str, *, max_wait: Seconds = 0, value: Data = b"", ttl: Seconds = _LOCK_TTL
    ) -> Lock | NotAcquired:
        """As `lock`, but gives up when the lock was not free within `max_wait`."""
        return self._claim(Asked(name, data(value), max_wait), ttl)

    def elect(self, name: str, value: Data, *, ttl: Seconds = _LOCK_TTL) -> Lock:
        """Stands for election, and waits until this client leads: the lock of that name, with a value."""
        return self.lock(name, value=value, ttl=ttl)

    def observe(self, name: str) -> Holders:
        """Observes who holds a lock, or who leads: first the present state, then every change."""
        return Holders(self, Observer(self._issuer.caller, name))

    def inspect_lock(self, name: str) -> LockState:
        """Reads who holds a lock, and how many wait. Raises `Error`."""
        return self._run(inspect(self._issuer.caller, name))

    def _claim(self, asked: Asked, ttl: Seconds) -> Lock | NotAcquired:
        session = self.session(ttl=ttl)
        return session._claim(asked, is_alone=True)
