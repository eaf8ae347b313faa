import assert from "node:assert/strict";
import { test } from "node:test";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { toBytes } from "../src/bytes.js";
import { Fault } from "../src/fault.js";
import { Cause, type WatchResponse, WatchResponseSchema } from "../src/gen/seshat/kv/v1/watch_pb.js";
import { Assembly } from "../src/watch/assembly.js";
import { Copy } from "../src/watch/mirror.js";

const CLUSTER = 7n;

function message(message: NonNullable<MessageInitShape<typeof WatchResponseSchema>["message"]>): WatchResponse {
  return create(WatchResponseSchema, { message });
}

const entry = (key: string, revision: bigint) => ({
  key: toBytes(key),
  value: toBytes(`${key}@${String(revision)}`),
  revision,
});
const reset = () => message({ case: "reset", value: {} });
const synced = (revision: bigint, clusterId = CLUSTER) => message({ case: "synced", value: { clusterId, revision } });
const progress = (revision: bigint) => message({ case: "progress", value: { revision } });
const state = (keys: [string, bigint][], deleted: string[] = []) =>
  message({
    case: "state",
    value: { entries: keys.map(([key, at]) => entry(key, at)), deleted: deleted.map(toBytes) },
  });
const events = (revision: bigint, keys: string[], more = false, cause = Cause.SET) =>
  message({
    case: "events",
    value: { revision, more, events: keys.map((key) => ({ cause, entry: entry(key, revision) })) },
  });

const revision = (assembly: Assembly) => assembly.position?.revision;
const fresh = () => new Assembly(undefined, 0n);
const complete = (revision: bigint) => {
  const assembly = fresh();
  assembly.add(reset());
  assembly.add(synced(revision));
  return assembly;
};

test("a caller stands at the revision of a complete state, and of what follows", () => {
  const assembly = fresh();
  assert.equal(assembly.add(reset())?.type, "reset");
  assert.equal(assembly.add(state([["a", 3n]]))?.type, "state");
  assert.equal(revision(assembly), undefined);
  assert.deepEqual(assembly.add(synced(5n)), { type: "synced", position: { clusterId: CLUSTER, revision: 5n } });
  assert.equal(assembly.add(events(6n, ["a"]))?.type, "events");
  assert.equal(revision(assembly), 6n);
  assembly.add(progress(9n));
  assert.deepEqual(assembly.position, { clusterId: CLUSTER, revision: 9n });
  assembly.add(state([["a", 10n]]));
  assert.equal(revision(assembly), undefined, "a part of the state makes the map incomplete");
});

test("the changes of one revision come whole", () => {
  const assembly = complete(5n);
  assert.equal(assembly.add(events(6n, ["a"], true)), undefined);
  assert.equal(revision(assembly), 5n, "a half revision is none");
  const update = assembly.add(events(6n, ["b"]));
  assert.ok(update?.type === "events" && update.events.length === 2);
  assert.equal(revision(assembly), 6n);
});

test("half a revision is dropped when the connection is lost, and when a state comes instead", () => {
  const lost = complete(5n);
  lost.add(events(6n, ["a"], true));
  lost.cutOff();
  assert.equal(revision(lost), 5n);
  const whole = lost.add(events(6n, ["a", "b"]));
  assert.ok(whole?.type === "events" && whole.events.length === 2);

  const replaced = complete(5n);
  replaced.add(events(6n, ["a"], true));
  replaced.add(state([["a", 6n]]));
  assert.equal(replaced.add(synced(6n))?.type, "synced");
});

test("what breaks the order is a fault of the node", () => {
  const faults: [string, () => unknown][] = [
    ["events before synced", () => fresh().add(events(1n, ["a"]))],
    ["progress before synced", () => fresh().add(progress(1n))],
    ["a lower revision", () => complete(5n).add(events(5n, ["a"]))],
    ["progress that goes back", () => complete(5n).add(progress(4n))],
    ["a state that goes back", () => complete(5n).add(synced(4n))],
    ["a state below the least revision", () => new Assembly(undefined, 9n).add(synced(8n))],
    ["an empty message", () => fresh().add(create(WatchResponseSchema))],
  ];
  const half = complete(5n);
  half.add(events(6n, ["a"], true));
  faults.push(["another revision within half of one", () => half.add(events(7n, ["a"]))]);
  const unfinished = complete(5n);
  unfinished.add(events(6n, ["a"], true));
  faults.push(["synced within half of one", () => unfinished.add(synced(6n))]);
  for (const [what, add] of faults) {
    assert.throws(add, Fault, what);
  }
});

test("no earlier state is shown, also after a reset", () => {
  const assembly = complete(5n);
  assembly.add(reset());
  assert.equal(assembly.floor, 5n);
  assembly.add(state([["a", 8n]]));
  assert.equal(assembly.floor, 8n, "a key of revision 8 was shown");
  assert.throws(() => assembly.add(synced(7n)), Fault);
});

test("an unknown cause is a removal", () => {
  const update = complete(5n).add(events(6n, ["a"], false, 99 as Cause));
  assert.ok(update?.type === "events");
  assert.deepEqual(update.events, [{ type: "removed", key: toBytes("a"), revision: 6n, cause: "other" }]);
});

/** The keys that a mirror shows after these messages, with their revisions. */
function mirror() {
  const assembly = fresh();
  const copy = new Copy();
  return {
    copy,
    take: (next: WatchResponse) => {
      const update = assembly.add(next);
      return update !== undefined && copy.apply(update);
    },
    shown: () => [...copy.shown.values()].map(({ revision }) => revision),
  };
}

test("a mirror shows the former state until the new one is complete", () => {
  const { copy, take, shown } = mirror();
  take(reset());
  take(
    state([
      ["a", 1n],
      ["b", 2n],
    ]),
  );
  assert.deepEqual(shown(), []);
  assert.ok(take(synced(2n)));
  assert.deepEqual(shown(), [1n, 2n]);
  take(reset());
  take(
    state([
      ["b", 2n],
      ["c", 3n],
    ]),
  );
  assert.deepEqual(shown(), [1n, 2n]);
  assert.ok(take(synced(3n)));
  assert.deepEqual(shown(), [2n, 3n]);
  assert.deepEqual(copy.position, { clusterId: CLUSTER, revision: 3n });
  take(reset());
  take(
    state([
      ["b", 2n],
      ["c", 3n],
    ]),
  );
  assert.equal(take(synced(4n)), false, "nothing that is shown has changed");
});

test("a mirror follows changes, and a state in their place", () => {
  const { take, shown } = mirror();
  take(reset());
  take(synced(1n));
  assert.ok(take(events(2n, ["a", "b"])));
  assert.ok(take(events(3n, ["a"], false, Cause.EXPIRED)));
  assert.deepEqual(shown(), [2n]);
  assert.equal(take(events(4n, ["a"], false, Cause.DELETED)), false, "it was not there");
  take(state([["c", 5n]], ["b"]));
  assert.deepEqual(shown(), [2n]);
  assert.ok(take(synced(5n)));
  assert.deepEqual(shown(), [5n]);
});
