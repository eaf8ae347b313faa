"""One daemon thread for all flows in the background."""

from __future__ import annotations

import heapq
import itertools
import queue
import threading
import time

from seshat._core.flow import FOREVER, Flow, Me, Wait
from seshat._core.nodes import log


class _Task:
    """A flow in the background."""

    def __init__(self, flow: Flow[None], ready: queue.SimpleQueue[_Task]) -> None:
        self.until = 0.0
        self.queued = FOREVER
        self.is_started = False
        self.is_done = False
        self._flow = flow
        self._ready = ready

    def nudge(self) -> None:
        self._ready.put(self)

    def step(self, answer: bool | None) -> None:
        self.is_started = True
        try:
            effect: Wait | Me = self._flow.send(answer)
            while isinstance(effect, Me):
                effect = self._flow.send(self)
            self.until = effect.until
        except StopIteration:
            self.is_done = True
        except Exception:
            self.is_done = True
            log.exception("a task in the background has failed")


class _Dues:
    """The tasks that wait until some moment, each at most once for each earlier moment."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, _Task]] = []
        self._order = itertools.count()

    def add(self, task: _Task) -> None:
        if task.until < task.queued:
            task.queued = task.until
            heapq.heappush(self._heap, (task.until, next(self._order), task))

    def timeout(self) -> float | None:
        return max(self._heap[0][0] - time.monotonic(), 0.0) if self._heap else None

    def take(self) -> list[_Task]:
        """Those whose moment has come."""
        now = time.monotonic()
        due = []
        while self._heap and self._heap[0][0] <= now:
            _, _, task = heapq.heappop(self._heap)
            task.queued = FOREVER
            if not task.is_done and task.until <= now:
                due.append(task)
            elif not task.is_done:
                self.add(task)
        return due


class Background:
    """One daemon thread, for as long as there are flows."""

    def __init__(self) -> None:
        self._ready: queue.SimpleQueue[_Task] = queue.SimpleQueue()
        self._lock = threading.RLock()
        self._idle = threading.Condition(self._lock)
        self._tasks = 0
        self._has_thread = False

    def spawn(self, flow: Flow[None]) -> None:
        task = _Task(flow, self._ready)
        with self._lock:
            self._tasks += 1
            if not self._has_thread:
                self._has_thread = True
                threading.Thread(target=self._run, name="seshat", daemon=True).start()
        task.nudge()

    def drain(self, timeout: float) -> None:
        with self._idle:
            self._idle.wait_for(lambda: self._tasks == 0, timeout)

    def _run(self) -> None:
        dues = _Dues()
        while True:
            for task, answer in self._next(dues):
                task.step(answer)
                if not task.is_done:
                    dues.add(task)
                elif self._finished():
                    return

    def _next(self, dues: _Dues) -> list[tuple[_Task, bool | None]]:
        """The tasks that go on, and whether each was nudged; waits for one."""
        try:
            task = self._ready.get(timeout=dues.timeout())
        except queue.Empty:
            return [(task, False) for task in dues.take()]
        return [] if task.is_done else [(task, True if task.is_started else None)]

    def _finished(self) -> bool:
        with self._idle:
            self._tasks -= 1
            if self._tasks > 0:
                return False
            self._has_thread = False
            self._idle.notify_all()
            return True
