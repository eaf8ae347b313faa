"""What ends with a client: its sessions, locks, watches, observations and pipelines."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable


class Belongings:
    """Ends things, when the client is closed or the program has dropped them. Ending never blocks.

    Things may be dropped at any moment, also while this thread has a lock: so all locks of the client are reentrant.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._finalizers: set[weakref.finalize[..., object]] = set()

    def add(self, owner: object, end: Callable[[], None]) -> None:
        """Calls `end`, which must not refer to `owner`, once at the latest when `owner` is dropped."""
        finalizer = weakref.finalize(owner, end)
        # At the exit of the program nothing can be waited for.
        finalizer.atexit = False
        with self._lock:
            self._finalizers = {one for one in self._finalizers if one.alive}
            self._finalizers.add(finalizer)

    def end(self) -> None:
        with self._lock:
            finalizers, self._finalizers = self._finalizers, set()
        for finalizer in finalizers:
            finalizer()
