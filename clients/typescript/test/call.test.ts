import assert from "node:assert/strict";
import { performance } from "node:perf_hooks";
import { test } from "node:test";
import { call } from "../src/call.js";
import type { Connection } from "../src/connection.js";
import { Fault } from "../src/fault.js";
import { Node, Nodes } from "../src/nodes.js";
import { settings } from "../src/settings.js";

const ADDRESS = "kv-1:6379";

for (const { given, took, stays } of [
  // The program stood still meanwhile.
  { given: 5, took: 500, stays: true },
  { given: 500, took: 5, stays: false },
]) {
  test(`a node that had ${String(given)} ms to answer is judged by that, not by ${String(took)} ms`, async (t) => {
    let time = 0;
    t.mock.method(performance, "now", () => time);
    const nodes = new Nodes([ADDRESS], settings({}));
    const connection = { open: () => Promise.resolve(), retire: () => undefined } as unknown as Connection;
    t.mock.method(nodes, "node", () => new Node(ADDRESS, "calls", connection, given, undefined));
    nodes.rememberLeader(ADDRESS);
    const silent = nodes.run({ timeout: given }, (scope) =>
      call(scope, "once", () => {
        time += took;
        throw Fault.silence();
      }),
    );
    await assert.rejects(silent, { kind: "deadline", applied: "unknown" });
    assert.equal(nodes.leader(), stays ? ADDRESS : undefined);
  });
}
