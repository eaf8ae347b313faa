import assert from "node:assert/strict";
import { test } from "node:test";
import { sessionLost } from "../src/errors.js";
import { MAX_OUTSTANDING, type Numbered, Numbers } from "../src/numbers.js";

const never = new AbortController().signal;

function stamp(number: Numbered | undefined): [bigint, bigint] {
  assert.ok(number);
  const { sequence, firstOutstanding } = number.stamp();
  return [sequence, firstOutstanding];
}

/** Whether a promise has settled, once all that is ready has run. */
async function settled(promise: Promise<unknown>): Promise<boolean> {
  let done = false;
  promise.then(
    () => (done = true),
    () => (done = true),
  );
  await new Promise(setImmediate);
  return done;
}

test("the session moves past writes without a waiting caller", async () => {
  const numbers = new Numbers(7n);
  const [first, second, third] = await numbers.next(3, never);
  assert.deepEqual(
    [stamp(second), stamp(third)],
    [
      [2n, 1n],
      [3n, 1n],
    ],
  );
  second?.end();
  assert.deepEqual(stamp(third), [3n, 1n], "the first is still waited for");
  first?.end();
  assert.deepEqual(stamp(third), [3n, 3n]);
  third?.end();
  assert.deepEqual(stamp(third), [3n, 3n], "never more than its own number");
  const [fourth] = await numbers.next(1, never);
  assert.deepEqual(stamp(fourth), [4n, 4n], "no number is given twice");
});

test("no more are outstanding than a node accepts", async () => {
  const numbers = new Numbers(7n);
  const given = await numbers.next(MAX_OUTSTANDING, never);
  const waiting = numbers.next(1, never);
  given[5]?.end();
  given.at(-1)?.end();
  assert.equal(await settled(waiting), false, "the first is outstanding");
  given[0]?.end();
  assert.deepEqual(stamp((await waiting)[0]), [1_025n, 2n]);
});

test("numbers are given first come, first served", async () => {
  const numbers = new Numbers(7n);
  const [first] = await numbers.next(1, never);
  const batch = numbers.next(MAX_OUTSTANDING, never);
  const single = numbers.next(1, never);
  const gone = new AbortController();
  const given = numbers.next(MAX_OUTSTANDING, gone.signal);
  const last = numbers.next(1, never);
  assert.equal(await settled(single), false, "a write that came later has not gone ahead of the batch");
  first?.end();
  assert.deepEqual(stamp((await batch)[0]), [2n, 2n]);
  gone.abort(new Error("no longer"));
  await assert.rejects(given, /no longer/);
  for (const number of await batch) {
    number.end();
  }
  assert.equal((await single)[0]?.sequence, 1_026n);
  assert.equal((await last)[0]?.sequence, 1_027n, "a caller that waits no longer does not block the others");
});

test("a session that is lost gives no numbers", async () => {
  let lost = false;
  const numbers = new Numbers(7n, () => {
    if (lost) {
      throw sessionLost("ended");
    }
  });
  await numbers.next(MAX_OUTSTANDING, never);
  const waiting = numbers.next(1, never);
  lost = true;
  numbers.fail(sessionLost("ended"));
  await assert.rejects(waiting, { kind: "session_lost", applied: "no" });
  await assert.rejects(numbers.next(1, never), { kind: "session_lost" });
});
