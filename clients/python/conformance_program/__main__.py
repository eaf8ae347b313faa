"""Reads requests and writes responses; with ``--threads`` by the client for threads."""

from __future__ import annotations

import asyncio
import functools
import os
import sys
import threading

import seshat
from conformance_program import conformance_pb2 as pb
from conformance_program import frames
from conformance_program.actions import Actions

_WRITES = {"set", "delete", "txn", "pipeline"}


async def in_loop() -> None:
    actions = Actions(is_async=True)
    tasks: dict[int, asyncio.Task[pb.Response]] = {}
    loop = asyncio.get_running_loop()
    requests: asyncio.Queue[bytes | None] = asyncio.Queue()

    def read() -> None:
        payload: bytes | None = b""
        while payload is not None:
            payload = frames.read()
            loop.call_soon_threadsafe(requests.put_nowait, payload)

    def respond(request: pb.Request, task: asyncio.Task[pb.Response]) -> None:
        # A task that is cancelled before it has begun never runs, so it cannot say so itself.
        if task.cancelled():
            is_write = request.WhichOneof("action") in _WRITES
            applied = pb.APPLIED_UNKNOWN if is_write else pb.APPLIED_NO
            failure = pb.Failure(applied=applied, kind=pb.KIND_CANCELLED, message="cancelled")
            response = pb.Response(id=request.id, failure=failure)
        else:
            response = task.result()
        del tasks[request.id]
        frames.write(response)

    threading.Thread(target=read, daemon=True).start()
    while (payload := await requests.get()) is not None:
        request = pb.Request.FromString(payload)
        if request.HasField("cancel"):
            cancelled = tasks.get(request.cancel.request)
            if cancelled is not None:
                cancelled.cancel()
            frames.write(pb.Response(id=request.id, done=pb.Done()))
            continue
        task = tasks[request.id] = loop.create_task(actions.respond(request, None))
        task.add_done_callback(functools.partial(respond, request))


def in_threads() -> None:
    actions = Actions(is_async=False)
    cancellations: dict[int, seshat.Cancellation] = {}

    def respond(request: pb.Request, cancellation: seshat.Cancellation) -> None:
        try:
            # It never waits, because the calls of this client have returned.
            actions.respond(request, cancellation).send(None)
        except StopIteration as end:
            frames.write(end.value)
        del cancellations[request.id]

    while (payload := frames.read()) is not None:
        request = pb.Request.FromString(payload)
        if request.HasField("cancel"):
            cancelled = cancellations.get(request.cancel.request)
            if cancelled is not None:
                cancelled.cancel()
            frames.write(pb.Response(id=request.id, done=pb.Done()))
            continue
        cancellation = cancellations[request.id] = seshat.Cancellation()
        threading.Thread(target=respond, args=(request, cancellation), daemon=True).start()


if "--threads" in sys.argv:
    in_threads()
else:
    asyncio.run(in_loop())
sys.stdout.flush()
# Nothing is to be waited for: the runner has closed the input.
os._exit(0)
