import assert from "node:assert/strict";
import { setImmediate } from "node:timers/promises";
import { test, type TestContext } from "node:test";
import { Claim } from "../src/claim.js";
import type { Connection } from "../src/connection.js";
import { Lease } from "../src/lease.js";
import { Node, Nodes } from "../src/nodes.js";
import { Numbers } from "../src/numbers.js";
import type { LivingSession } from "../src/session.js";
import { settings } from "../src/settings.js";
import { FakeClock } from "./fake_clock.js";

const ADDRESS = "kv-1:6379";

/** A question for the state of a claim, which the test answers. */
interface Question {
  readonly claim: bigint;
  readonly answer: (result: object) => void;
}

/** A session at a node at which every claim waits, and asks for the state of `awaits` claims at once. */
function start(t: TestContext, awaits: number): { session: LivingSession; questions: Question[] } {
  const questions: Question[] = [];
  const nodes = new Nodes([ADDRESS], { ...settings({}), awaits });
  const locks = {
    acquire: () => Promise.resolve({ result: { case: "waiting" } }),
    release: () => Promise.resolve({}),
    await: ({ claim }: { claim: bigint }) =>
      new Promise<object>((resolve) => {
        questions.push({
          claim,
          answer: (result) => {
            resolve({ result });
          },
        });
      }),
  };
  const connection = { open: () => Promise.resolve(), locks } as unknown as Connection;
  t.mock.method(nodes, "node", () => new Node(ADDRESS, "streams", connection, Infinity, undefined));
  nodes.rememberLeader(ADDRESS);
  const clock = new FakeClock();
  const inSession = { numbers: new Numbers(7n), cluster: undefined };
  const lease = new Lease(10_000, clock, clock.moment());
  return { session: { nodes, lease, inSession, id: 7n } as unknown as LivingSession, questions };
}

function claim(session: LivingSession, signal?: AbortSignal): Promise<bigint | undefined> {
  return new Claim(session, false, { name: "k", value: new Uint8Array(), maxWait: undefined }).make({ signal });
}

test("claims take turns where more wait than are asked for at once", async (t) => {
  const { session, questions } = start(t, 2);
  const claims = Array.from({ length: 5 }, () => claim(session));
  const order: bigint[] = [];
  while (order.length < 15) {
    await setImmediate();
    assert.equal(questions.length, 2);
    for (const { claim: asked, answer } of questions.splice(0, 1)) {
      order.push(asked);
      answer({ case: "waiting" });
    }
  }
  const round = [1n, 2n, 3n, 4n, 5n];
  assert.deepEqual(order, [...round, ...round, ...round]);
  for (let left = 5; left > 0; left -= 1) {
    await setImmediate();
    questions.shift()?.answer({ case: "held", value: { token: 9n } });
  }
  assert.deepEqual(await Promise.all(claims), [9n, 9n, 9n, 9n, 9n]);
});

test("a claim that has no turn ends with its caller", async (t) => {
  const { session } = start(t, 0);
  const caller = new AbortController();
  const waiting = claim(session, caller.signal);
  await setImmediate();
  caller.abort(new Error("enough"));
  await assert.rejects(waiting, { kind: "cancelled", applied: "no" });
});
