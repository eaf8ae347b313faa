"""Carries out what the runner asks for, with either client.

The calls of the client for an event loop are awaited; those of the client for threads have returned already, so that
their coroutine never waits.
"""

from __future__ import annotations

import inspect
import traceback
from typing import Any

import seshat
import seshat.aio
from conformance_program import conformance_pb2 as pb
from conformance_program import values


async def ready(result: Any) -> Any:
    return await result if inspect.isawaitable(result) else result


class Actions:
    """The clients of the runner, and what it has made with them."""

    def __init__(self, is_async: bool) -> None:
        self._is_async = is_async
        self._handles: dict[str, Any] = {}

    async def respond(self, request: pb.Request, cancellation: seshat.Cancellation | None) -> pb.Response:
        action = request.WhichOneof("action")
        try:
            outcome = await getattr(self, f"_{action}")(getattr(request, action or ""), cancellation)
        except seshat.Error as error:
            outcome = {"failure": values.failure(error)}
        except Exception:
            outcome = {"failure": pb.Failure(message=traceback.format_exc())}
        return pb.Response(id=request.id, **outcome)

    def _caller(self, caller: pb.Caller, cancellation: seshat.Cancellation | None) -> Any:
        made = self._handles[caller.client or caller.session]
        if caller.HasField("timeout"):
            made = made.with_timeout(values.seconds(caller.timeout))
        return made if cancellation is None else made.cancelled_by(cancellation)

    async def _echo(self, asked: pb.Echo, _: Any) -> dict[str, Any]:
        return {"echoed": values.echo(asked)}

    async def _connect(self, asked: pb.Connect, _: Any) -> dict[str, Any]:
        options: dict[str, Any] = {}
        if asked.HasField("timeout"):
            options["timeout"] = values.seconds(asked.timeout)
        if asked.HasField("only_cluster"):
            options["only_cluster"] = asked.only_cluster
        make = seshat.aio.Client if self._is_async else seshat.Client
        self._handles[asked.client] = make(list(asked.endpoints), **options)
        return {"done": pb.Done()}

    async def _close(self, asked: pb.Close, cancellation: Any) -> dict[str, Any]:
        made = self._handles[asked.handle]
        if isinstance(made, (seshat.Lock, seshat.aio.Lock)):
            await ready(made.release())
        elif hasattr(made, "close"):
            await ready(made.close())
        return {"done": pb.Done()}

    async def _get(self, asked: pb.Get, cancellation: Any) -> dict[str, Any]:
        found = await ready(self._caller(asked.caller, cancellation).find(asked.key))
        return {"got": values.got(asked.key, found)}

    async def _set(self, asked: pb.Set, cancellation: Any) -> dict[str, Any]:
        caller = self._caller(asked.caller, cancellation)
        write = values.write(asked, self._handles.__getitem__)
        lifetime = {"ttl": write.ttl, "owner": write.owner, "keep_lifetime": write.keep_lifetime}
        on, extra = self._on(asked)
        if extra is not None:
            return await self._conditional(caller, extra, write)
        written = await ready(caller.set(asked.key, asked.value, **lifetime, **on))
        if isinstance(written, seshat.NotHeld):
            return {"not_held": pb.NotHeld(found=values.entry(written.found))}
        return {"written": pb.Written(revision=written.revision)}

    async def _delete(self, asked: pb.Delete, cancellation: Any) -> dict[str, Any]:
        caller = self._caller(asked.caller, cancellation)
        on, extra = self._on(asked)
        if extra is not None:
            return await self._conditional(caller, extra, seshat.Delete(asked.key))
        deleted = await ready(caller.delete(asked.key, **on))
        if isinstance(deleted, seshat.NotHeld):
            return {"not_held": pb.NotHeld(found=values.entry(deleted.found))}
        return {"deleted": pb.Deleted(existed=deleted.existed, revision=deleted.revision)}

    def _on(self, asked: pb.Set | pb.Delete) -> tuple[dict[str, Any], seshat.Condition | None]:
        """The condition of a write by the name that the client gives it, or one that has no name there."""
        if not asked.HasField("condition"):
            return {}, None
        test = asked.condition.WhichOneof("test")
        if test == "revision":
            return {"if_revision": asked.condition.revision}, None
        if test == "value":
            return {"if_value": asked.condition.value}, None
        if test == "held":
            return {"if_held": self._handles[asked.condition.held]}, None
        if test == "token":
            token = asked.condition.token
            return {"if_held": seshat.Token(token.name, token.token)}, None
        if isinstance(asked, pb.Set) and not asked.condition.exists:
            return {"if_absent": True}, None
        return {}, values.condition(asked.condition, asked.key, self._handles.__getitem__)

    async def _conditional(
        self, caller: Any, condition: seshat.Condition, write: seshat.Set | seshat.Delete
    ) -> dict[str, Any]:
        outcome = await ready(caller.txn(when=[condition], then=[write], otherwise=[seshat.Get(write.key)]))
        if not outcome:
            return {"not_held": pb.NotHeld(found=values.entry(outcome.results[0].found))}
        if isinstance(write, seshat.Set):
            return {"written": pb.Written(revision=outcome.revision)}
        return {"deleted": pb.Deleted(existed=outcome.results[0].existed, revision=outcome.revision)}

    async def _txn(self, asked: pb.Txn, cancellation: Any) -> dict[str, Any]:
        handle = self._handles.__getitem__
        done = await ready(
            self._caller(asked.caller, cancellation).txn(
                when=[values.condition(it, it.key, handle) for it in asked.conditions],
                then=[values.operation(it, handle) for it in asked.success],
                otherwise=[values.operation(it, handle) for it in asked.failure],
            )
        )
        results = [values.result(it) for it in done.results]
        return {"txn_done": pb.TxnDone(succeeded=done.succeeded, results=results, revision=done.revision)}

    async def _scan(self, asked: pb.Scan, cancellation: Any) -> dict[str, Any]:
        caller = self._caller(asked.caller, cancellation)
        if asked.count_only:
            return {"scanned": pb.Scanned(count=await ready(caller.count(asked.prefix)))}
        limit = asked.limit or None
        entries = await ready(caller.scan(asked.prefix, limit=limit, keys_only=asked.keys_only).collect())
        return {"scanned": pb.Scanned(entries=map(values.present, entries))}

    async def _open_session(self, asked: pb.OpenSession, cancellation: Any) -> dict[str, Any]:
        client = self._caller(pb.Caller(client=asked.client), cancellation)
        ttl = {"ttl": values.seconds(asked.ttl)} if asked.HasField("ttl") else {}
        session = await ready(client.session(**ttl))
        self._handles[asked.session] = session
        return {"session_opened": pb.SessionOpened(id=session.id)}

    async def _await_lost(self, asked: pb.AwaitLost, cancellation: Any) -> dict[str, Any]:
        made = self._handles[asked.handle]
        if cancellation is None:
            await made.wait_lost()
        else:
            self._poll(lambda: made.wait_lost(timeout=0.1), cancellation)
        return {"done": pb.Done()}

    @staticmethod
    def _poll(ask: Any, cancellation: seshat.Cancellation) -> Any:
        """Waits in a thread for what the runner may cancel."""
        while (found := ask()) is None:
            if cancellation.is_cancelled:
                raise seshat.Cancelled("the caller waits no longer")
        return found

    async def _watch(self, asked: pb.Watch, _: Any) -> dict[str, Any]:
        client = self._handles[asked.client]
        one = asked.HasField("key")
        self._handles[asked.watch] = client.watch_key(asked.key) if one else client.watch(asked.prefix)
        return {"done": pb.Done()}

    async def _next(self, asked: pb.Next, cancellation: Any) -> dict[str, Any]:
        made = self._handles[asked.handle]
        while True:
            if cancellation is None:
                news = await made.next()
            else:
                news = self._poll(lambda: _within(made), cancellation)[0]
            if isinstance(made, (seshat.Holders, seshat.aio.Holders)):
                return {"holder_is": values.holder(news)}
            update = values.update(news)
            if update is not None:
                return {"update": update}

    async def _lock(self, asked: pb.Lock, cancellation: Any) -> dict[str, Any]:
        caller = self._caller(asked.caller, cancellation)
        options: dict[str, Any] = {"value": asked.value}
        if asked.HasField("ttl"):
            options["ttl"] = values.seconds(asked.ttl)
        if asked.HasField("max_wait"):
            max_wait = values.seconds(asked.max_wait)
            lock = await ready(caller.try_lock(asked.name, max_wait=max_wait, **options))
        else:
            lock = await ready(caller.lock(asked.name, **options))
        if not lock:
            return {"not_acquired": pb.NotAcquired()}
        self._handles[asked.lock] = lock
        return {"acquired": pb.Acquired(token=lock.token)}

    async def _observe(self, asked: pb.Observe, _: Any) -> dict[str, Any]:
        self._handles[asked.observation] = self._handles[asked.client].observe(asked.name)
        return {"done": pb.Done()}

    async def _pipeline(self, asked: pb.Pipeline, cancellation: Any) -> dict[str, Any]:
        caller = self._caller(asked.caller, cancellation)
        commands = [values.operation(it, self._handles.__getitem__) for it in asked.commands]
        pipeline = await ready(caller.pipeline(window=1024))
        try:
            answers = [await self._submit(pipeline, command) for command in commands]
            replies = [it if isinstance(it, seshat.Error) else (await ready(it.result()))[0] for it in answers]
        finally:
            pipeline.close()
        results = [values.reply(*pair) for pair in zip(commands, replies, strict=True)]
        return {"answers": pb.Answers(results=results)}

    @staticmethod
    async def _submit(pipeline: Any, command: seshat.Command) -> Any:
        try:
            return await ready(pipeline.submit([command]))
        except seshat.Error as error:
            return error


def _within(made: Any) -> list[Any] | None:
    try:
        return [made.next(timeout=0.1)]
    except TimeoutError:
        return None
