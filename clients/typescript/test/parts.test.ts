import assert from "node:assert/strict";
import { getEventListeners } from "node:events";
import { test } from "node:test";
import { toJson } from "@bufbuild/protobuf";
import { keyString, text, toBytes } from "../src/bytes.js";
import { endpoints } from "../src/endpoints.js";
import { KeyRangeSchema } from "../src/gen/seshat/kv/v1/txn_pb.js";
import { Client, KeyRange } from "../src/index.js";
import { Outbox } from "../src/outbox.js";
import { Semaphore } from "../src/semaphore.js";
import { settings } from "../src/settings.js";
import { duration, jittered, linked, longer, sleep } from "../src/time.js";

test("endpoints are host and port, with holes in their list", () => {
  assert.deepEqual(endpoints(" kv-1:6379,, http://[::1]:6379/ ,kv-1:6379"), ["kv-1:6379", "[::1]:6379"]);
  assert.deepEqual(endpoints(["a:1,b:2", ""]), ["a:1", "b:2"]);
  for (const list of [
    "",
    " , ",
    "6379",
    "kv-1",
    ":6379",
    "kv-1:",
    "kv-1:0",
    "kv-1:65536",
    "kv-1:1/path",
    "me@kv-1:1",
    "https://kv-1:1",
    "kv 1:1",
  ]) {
    assert.throws(() => endpoints(list), { kind: "invalid", applied: "no" }, list);
  }
});

test("the options of a client have bounds", () => {
  const defaults = settings({});
  assert.deepEqual(
    [
      defaults.timeout,
      defaults.connectTimeout,
      defaults.attemptTimeout,
      defaults.trust,
      defaults.backoff,
      defaults.follows,
    ],
    [5_000, 1_000, 1_000, 1_000, { min: 20, max: 500 }, true],
  );
  assert.deepEqual(settings({ backoff: { min: 700, max: 0 } }).backoff, { min: 1, max: 1 });
  const only = settings({ onlyCluster: 7n });
  assert.deepEqual([only.cluster, only.follows], [7n, false]);
});

test("pauses grow to the longest, and are between half and all of it", () => {
  const backoff = { min: 20, max: 500 };
  let pause = backoff.min;
  const pauses = Array.from({ length: 7 }, () => {
    const before = pause;
    pause = longer(backoff, pause);
    return before;
  });
  assert.deepEqual(pauses, [20, 40, 80, 160, 320, 500, 500]);
  assert.equal(
    jittered(100, () => 0),
    50,
  );
  assert.equal(
    jittered(100, () => 1),
    100,
  );
});

test("a sleep ends with its signal, and links are forgotten", async () => {
  const controller = new AbortController();
  const asleep = sleep(3_600_000, controller.signal);
  controller.abort(new Error("enough"));
  await assert.rejects(asleep, /enough/);
  await assert.rejects(sleep(1, controller.signal), /enough/);
  const source = new AbortController();
  const one = linked(undefined, source.signal);
  const other = linked(source.signal);
  other.unlink();
  source.abort(new Error("why"));
  assert.match(String(one.controller.signal.reason), /why/);
  assert.equal(other.controller.signal.aborted, false);
});

test("a signal has one listener, however many wait for it", async () => {
  const source = new AbortController();
  const all = Array.from({ length: 50 }, () => sleep(3_600_000, source.signal));
  const links = Array.from({ length: 50 }, () => linked(source.signal));
  assert.equal(getEventListeners(source.signal, "abort").length, 1);
  source.abort(new Error("enough"));
  const ends = await Promise.allSettled(all);
  assert.ok(ends.every(({ status }) => status === "rejected"));
  assert.ok(links.every(({ controller }) => controller.signal.aborted));
});

test("permits are given first come, first served", async () => {
  const semaphore = new Semaphore(1);
  const never = new AbortController().signal;
  const release = await semaphore.acquire(never);
  const order: number[] = [];
  const gone = new AbortController();
  const second = semaphore.acquire(gone.signal);
  const third = semaphore.acquire(never).then((give) => {
    order.push(3);
    give();
  });
  const fourth = semaphore.acquire(never).then((give) => {
    order.push(4);
    give();
  });
  gone.abort(new Error("no longer"));
  await assert.rejects(second, /no longer/);
  release();
  release();
  await Promise.all([third, fourth]);
  assert.deepEqual(order, [3, 4]);
  const give = await semaphore.acquire(never);
  const waiting = semaphore.acquire(AbortSignal.abort(new Error("one permit")));
  await assert.rejects(waiting, /one permit/, "a permit that is given back twice counts once");
  give();
});

test("an outbox is read to its end", async () => {
  const outbox = new Outbox<number>();
  outbox.push(1);
  const first = await outbox.next();
  const second = outbox.next();
  outbox.push(2);
  outbox.push(3);
  outbox.end();
  assert.deepEqual([first.value, (await second).value, (await outbox.next()).value], [1, 2, 3]);
  assert.equal((await outbox.next()).done, true);
});

test("keys are bytes, and text stands for its UTF-8", () => {
  assert.deepEqual([...toBytes("ä")], [0xc3, 0xa4]);
  assert.equal(text(toBytes("ä")), "ä");
  assert.throws(() => text(Uint8Array.of(0xff)), TypeError);
  const keys = [Uint8Array.of(), Uint8Array.of(0), Uint8Array.of(0x7f), Uint8Array.of(0x80), Uint8Array.of(0xff, 0)];
  const strings = keys.map(keyString);
  assert.deepEqual([...strings].sort(), strings, "in the order of their bytes");
});

test("ranges of keys", () => {
  const json = (range: KeyRange) => toJson(KeyRangeSchema, range.message);
  assert.deepEqual(json(KeyRange.prefix("")), { prefix: "" });
  assert.deepEqual(json(KeyRange.key("k")), { key: "aw==" });
  assert.deepEqual(json(KeyRange.interval("a", "b")), { interval: { start: "YQ==", end: "Yg==" } });
  assert.deepEqual(json(KeyRange.interval("a")), { interval: { start: "YQ==" } });
});

test("a client that is closed sends nothing", async () => {
  const client = new Client("127.0.0.1:1");
  await client.close();
  await assert.rejects(client.set("k", "v"), { kind: "invalid", applied: "no" });
  assert.throws(() => client.watch("k"), { kind: "invalid" });
});

test("a call that was cancelled before it began sends nothing", async () => {
  const client = new Client("127.0.0.1:1");
  const signal = AbortSignal.abort(new Error("why"));
  await assert.rejects(client.set("k", "v", { signal }), (error: Error & { applied: string; kind: string }) => {
    assert.match(String(error.cause), /why/);
    return error.applied === "no" && error.kind === "cancelled";
  });
  await client.close();
});

test("keys and values are bytes, or text that has UTF-8", () => {
  assert.deepEqual([...toBytes("ü😀")], [...Buffer.from("ü😀")]);
  for (const other of ["\ud800", "a\udc00b", 5, null, undefined, [1], {}, new ArrayBuffer(2), new Uint16Array(2)]) {
    assert.throws(() => toBytes(other as string), { kind: "invalid", applied: "no" }, typeof other);
  }
});

test("a duration is a finite number", async () => {
  assert.equal(duration(1_000.5).nanos, 1_000_000);
  for (const ms of [NaN, Infinity, 1e30]) {
    assert.throws(() => duration(ms), { kind: "invalid" });
  }
  const client = new Client("127.0.0.1:1");
  await assert.rejects(client.get("k", { timeout: NaN }), { kind: "invalid" });
  await client.close();
});

test("a condition on what is not there is no write without a condition", async () => {
  const client = new Client("127.0.0.1:1", { timeout: 1 });
  for (const on of [{ ifValue: undefined }, { ifRevision: undefined }, { ifHeld: undefined }, { ifAbsent: false }]) {
    await assert.rejects(client.set("k", "v", on as object), { kind: "invalid" }, JSON.stringify(on));
  }
  await client.close();
});

test("a write has one condition", async () => {
  const client = new Client("127.0.0.1:1");
  await assert.rejects(client.set("k", "v", { ifAbsent: true, ifRevision: 1n }), { kind: "invalid" });
  await client.close();
});
