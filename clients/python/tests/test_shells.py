"""Both clients against a real gRPC server in this process, which is told what to answer."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

import seshat
import seshat.aio
from seshat.kv.v1 import error_pb2, txn_pb2, watch_pb2
from seshat.kv.v1 import kv_service_pb2 as kv
from seshat.kv.v1.kv_service_pb2_grpc import KvServiceServicer, add_KvServiceServicer_to_server
from seshat.lock.v1 import lock_service_pb2 as lock
from seshat.lock.v1.lock_service_pb2_grpc import LockServiceServicer, add_LockServiceServicer_to_server
from tests.world import trailers


class Node(KvServiceServicer, LockServiceServicer):
    """A node that leads. A test waits for what it has seen, and lets it go on."""

    def __init__(self) -> None:
        self.set: Callable[[Any, grpc.ServicerContext], kv.SetResponse] = lambda *_: kv.SetResponse()
        self.seen: list[str] = []
        self.changed = threading.Condition()
        self.may_go_on = threading.Event()
        self.server = grpc.server(ThreadPoolExecutor(16), options=[("grpc.so_reuseport", 0)])
        add_KvServiceServicer_to_server(self, self.server)
        add_LockServiceServicer_to_server(self, self.server)
        self.address = f"127.0.0.1:{self.server.add_insecure_port('127.0.0.1:0')}"
        self.server.start()

    def see(self, what: str) -> None:
        with self.changed:
            self.seen.append(what)
            self.changed.notify_all()

    def wait_for(self, what: str, times: int = 1) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: self.seen.count(what) >= times, 10), (what, self.seen)

    def Get(self, request: kv.GetRequest, context: Any) -> kv.GetResponse:  # noqa: N802
        return kv.GetResponse(value=request.key, revision=1)

    def Set(self, request: kv.SetRequest, context: Any) -> kv.SetResponse:  # noqa: N802
        self.see("set")
        return self.set(request, context)

    def hang(self, request: Any, context: grpc.ServicerContext) -> Any:
        gone = threading.Event()
        context.add_callback(gone.set)
        gone.wait(60)
        self.see("cancelled")
        return kv.SetResponse()

    def Scan(self, request: Any, context: Any) -> Iterator[kv.ScanResponse]:  # noqa: N802
        for number in range(3):
            last = number == 2
            yield kv.ScanResponse(
                entries=[txn_pb2.Entry(key=b"%d" % number)], revision=5, count=3 * last, more=not last
            )

    def Watch(self, request: Any, context: Any) -> Iterator[watch_pb2.WatchResponse]:  # noqa: N802
        gone = threading.Event()
        context.add_callback(gone.set)
        context.add_callback(lambda: self.see("watch ended"))
        yield watch_pb2.WatchResponse(reset=watch_pb2.WatchReset())
        yield watch_pb2.WatchResponse(synced=watch_pb2.WatchSynced(cluster_id=1, revision=5))
        gone.wait(30)

    def OpenSession(self, request: Any, context: Any) -> kv.OpenSessionResponse:  # noqa: N802
        return kv.OpenSessionResponse(ttl=Duration(seconds=10))

    def CloseSession(self, request: Any, context: Any) -> kv.CloseSessionResponse:  # noqa: N802
        self.see("closed")
        return kv.CloseSessionResponse()

    def Acquire(self, request: Any, context: Any) -> lock.AcquireResponse:  # noqa: N802
        self.see("acquire")
        if request.name == "taken":
            return lock.AcquireResponse(waiting=lock.Waiting(ahead=1))
        return lock.AcquireResponse(held=lock.Held(token=9))

    def Await(self, request: Any, context: Any) -> lock.AwaitResponse:  # noqa: N802
        self.see("await")
        self.may_go_on.wait(0.5)
        return lock.AwaitResponse(waiting=lock.Waiting(ahead=1))

    def Release(self, request: Any, context: Any) -> lock.ReleaseResponse:  # noqa: N802
        self.see("release")
        return lock.ReleaseResponse()

    def Pipeline(self, requests: Any, context: Any) -> Iterator[kv.PipelineResponse]:  # noqa: N802
        for request in requests:
            written = kv.PipelineResult(set=kv.SetResponse(applied_index=request.id))
            yield kv.PipelineResponse(id=request.id, results=[written] * len(request.commands))


@pytest.fixture
def node() -> Iterator[Node]:
    made = Node()  # type: ignore[abstract] # it serves what the tests need
    yield made
    made.may_go_on.set()
    made.server.stop(None)


def refuse(request: Any, context: grpc.ServicerContext) -> Any:
    detail = error_pb2.ErrorDetail(applied=error_pb2.APPLIED_NO)
    detail.full.limit = 2**63
    context.set_trailing_metadata(tuple(trailers(detail)))
    context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "full")


def test_a_refusal_has_its_reason(node: Node) -> None:
    node.set = refuse
    with seshat.Client(node.address) as client, pytest.raises(seshat.Refused) as caught:
        client.set("k", "v")
    assert (caught.value.applied, caught.value.reason) == (seshat.Applied.NO, "full")
    assert caught.value.refusal is not None
    assert caught.value.refusal.detail is not None
    assert caught.value.refusal.detail.full.limit == 2**63

    async def in_loop() -> None:
        async with seshat.aio.Client(node.address) as client:
            with pytest.raises(seshat.Refused) as caught:
                await client.set("k", "v")
            assert (caught.value.applied, caught.value.reason) == (seshat.Applied.NO, "full")

    asyncio.run(in_loop())


def test_a_node_that_ends_in_the_middle_of_a_write_leaves_it_in_doubt(node: Node) -> None:
    def stop(*_: Any) -> kv.SetResponse:
        node.server.stop(0)
        node.may_go_on.wait(10)
        return kv.SetResponse()

    node.set = stop
    client = seshat.Client(node.address, timeout=5)
    with pytest.raises(seshat.Error) as caught:
        client.set("k", "v")
    assert caught.value.applied is seshat.Applied.UNKNOWN
    assert node.seen == ["set"]
    # Now there is no node: nothing is sent.
    with pytest.raises(seshat.Unreachable) as caught_later:
        client.with_timeout(0.5).set("k", "v")
    assert caught_later.value.applied is seshat.Applied.NO
    client.close()


def test_a_deadline_ends_a_write_in_doubt(node: Node) -> None:
    node.set = node.hang
    with seshat.Client(node.address) as client:
        client.ready()
        with pytest.raises(seshat.DeadlineExceeded) as caught:
            client.with_timeout(0.3).set("k", "v")
        assert caught.value.applied is seshat.Applied.UNKNOWN


def test_a_cancelled_write_ends_at_the_node_and_is_in_doubt(node: Node) -> None:
    node.set = node.hang
    with seshat.Client(node.address, timeout=60) as client:
        cancellation = seshat.Cancellation()
        with ThreadPoolExecutor(1) as pool:
            write = pool.submit(client.cancelled_by(cancellation).set, "k", "v")
            node.wait_for("set")
            cancellation.cancel()
            error = write.exception(10)
        assert isinstance(error, seshat.Cancelled)
        assert error.applied is seshat.Applied.UNKNOWN
        node.wait_for("cancelled")

    async def in_loop() -> None:
        async with seshat.aio.Client(node.address, timeout=60) as client:
            write = asyncio.ensure_future(client.set("k", "v"))
            await asyncio.to_thread(node.wait_for, "set", 2)
            write.cancel()
            with pytest.raises(asyncio.CancelledError):
                await write
            await asyncio.to_thread(node.wait_for, "cancelled", 2)

    asyncio.run(in_loop())


def test_a_scan_comes_in_order_and_may_be_left(node: Node) -> None:
    with seshat.Client(node.address) as client:
        assert [entry.key for entry in client.scan()] == [b"0", b"1", b"2"]
        for entry in client.scan():
            assert entry.key == b"0"
            break

    async def in_loop() -> None:
        async with seshat.aio.Client(node.address) as client:
            assert [entry.key async for entry in client.scan()] == [b"0", b"1", b"2"]
            assert len(await client.scan().collect()) == 3

    asyncio.run(in_loop())


def test_nothing_is_lost_when_the_wait_for_an_update_times_out(node: Node) -> None:
    with seshat.Client(node.address) as client, client.watch() as updates:
        assert isinstance(updates.next(timeout=10), seshat.Reset)
        assert isinstance(updates.next(timeout=10), seshat.Synced)
        with pytest.raises(TimeoutError):
            updates.next(timeout=0.01)
        assert updates.position == seshat.Position(1, 5)
    node.wait_for("watch ended")

    async def in_loop() -> None:
        async with seshat.aio.Client(node.address) as client, client.watch() as updates:
            assert [type(await updates.next()) for _ in range(2)] == [seshat.Reset, seshat.Synced]
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(updates.next(), 0.01)
            assert updates.position == seshat.Position(1, 5)

    asyncio.run(in_loop())
    node.wait_for("watch ended", 2)


def test_a_dropped_watch_ends(node: Node) -> None:
    with seshat.Client(node.address) as client:
        updates = client.watch()
        next(updates)
        del updates
        gc.collect()
        node.wait_for("watch ended")


def test_a_lock_is_released_at_the_end_of_its_block(node: Node) -> None:
    with seshat.Client(node.address) as client:
        with client.lock("x") as held:
            assert (held.token, held.lost) == (9, None)
        assert held.lost is seshat.Lost.CLOSED
        with client.session(ttl=10) as session:
            with session.lock("x"), contextlib.suppress(ZeroDivisionError):
                raise ZeroDivisionError
            node.wait_for("release")
        assert session.wait_lost(timeout=10) is seshat.Lost.CLOSED
    assert node.seen.count("closed") == 2

    async def in_loop() -> None:
        async with seshat.aio.Client(node.address) as client:
            async with client.lock("x") as held:
                assert (held.token, held.lost) == (9, None)
            assert held.lost is seshat.Lost.CLOSED
            session = await client.session(ttl=10)
            async with session, session.lock("x"):
                pass
            assert await session.wait_lost() is seshat.Lost.CLOSED

    asyncio.run(in_loop())
    assert (node.seen.count("closed"), node.seen.count("release")) == (4, 2)


def test_who_gives_up_waiting_for_a_lock_releases_the_claim(node: Node) -> None:
    with seshat.Client(node.address) as client, client.session(ttl=10) as session:
        cancellation = seshat.Cancellation()
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(session.cancelled_by(cancellation).lock, "taken")
            node.wait_for("await")
            cancellation.cancel()
            assert isinstance(waiting.exception(10), seshat.Cancelled)
        node.wait_for("release")

    async def in_loop() -> None:
        async with seshat.aio.Client(node.address) as client, client.session(ttl=10) as session:
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(_wait(session), 0.2)
            await asyncio.to_thread(node.wait_for, "release", 2)

    async def _wait(session: seshat.aio.LivingSession) -> None:
        await session.lock("taken")

    asyncio.run(in_loop())


def test_a_dropped_session_and_one_of_a_closed_client_end(node: Node) -> None:
    with seshat.Client(node.address) as client:
        session = client.session(ttl=10)
        del session
        gc.collect()
        node.wait_for("closed")
        kept = client.session(ttl=10)
    assert node.seen.count("closed") == 2
    assert kept.lost is seshat.Lost.CLOSED
    with pytest.raises(seshat.Invalid):
        client.get("k")


def test_a_pipeline_answers_in_order(node: Node) -> None:
    with seshat.Client(node.address) as client, client.pipeline(window=4) as pipeline:
        batches = [pipeline.submit([seshat.Set("k", str(n))]) for n in range(100)]
        assert [batch.result() for batch in batches] == [[seshat.Written(n + 1)] for n in range(100)]

    async def in_loop() -> None:
        async with seshat.aio.Client(node.address) as client, client.pipeline(window=4) as pipeline:
            batches = [await pipeline.submit([seshat.Set("k", str(n))]) for n in range(100)]
            assert [await batch.result() for batch in batches] == [[seshat.Written(n + 1)] for n in range(100)]

    asyncio.run(in_loop())


def test_many_threads_and_many_tasks_share_a_client(node: Node) -> None:
    with seshat.Client(node.address) as client, ThreadPoolExecutor(16) as pool:
        keys = [b"%d" % number for number in range(400)]
        assert list(pool.map(client.get, keys)) == keys

    async def in_loop() -> None:
        async with seshat.aio.Client(node.address) as client:
            assert list(await asyncio.gather(*map(client.get, keys))) == keys

    asyncio.run(in_loop())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_client_says_so_in_a_process_that_was_forked_after_it_was_made(node: Node) -> None:
    with seshat.Client(node.address) as client:
        read, written = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                client.get("k")
            except seshat.Invalid as error:
                os.write(written, str(error).encode())
            finally:
                os._exit(0)
        os.close(written)
        with open(read, "rb") as said:
            assert b"fork" in said.read()
        os.waitpid(child, 0)
        assert client.get("k") == b"k"


def test_no_thread_is_left_behind(node: Node) -> None:
    with seshat.Client(node.address) as client, client.watch() as updates:
        next(updates)
        client.lock("x").release()
    threads = [thread for thread in threading.enumerate() if thread.name.startswith("seshat")]
    for thread in threads:
        thread.join(10)
    assert not any(thread.is_alive() for thread in threads)
