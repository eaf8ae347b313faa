import assert from "node:assert/strict";
import { test } from "node:test";
import { systemClock } from "../src/clock.js";
import { SeshatError } from "../src/errors.js";
import { Lease } from "../src/lease.js";
import { FakeClock } from "./fake_clock.js";

const TTL = 10_000;

function lease() {
  const clock = new FakeClock();
  return { clock, lease: new Lease(TTL, clock, clock.moment()) };
}

test("it holds for nine tenths of its TTL after the last renewal was sent", () => {
  const { clock, lease: it } = lease();
  clock.advance(8_999);
  assert.equal(it.isLost, undefined);
  const sent = it.now();
  it.renew(sent);
  assert.equal(it.end, 8_999 + 9_000);
  clock.advance(8_999);
  assert.equal(it.isLost, undefined);
  clock.advance(1);
  assert.equal(it.isLost, "not_renewed");
});

test("the time counts from when the renewal was sent, not from its answer", () => {
  const { clock, lease: it } = lease();
  const sent = it.now();
  clock.advance(5_000);
  it.renew(sent);
  clock.advance(4_000);
  assert.equal(it.isLost, "not_renewed");
});

test("an older renewal takes nothing away, and none brings it back", () => {
  const { clock, lease: it } = lease();
  const older = it.now();
  clock.advance(5_000);
  it.renew(it.now());
  it.renew(older);
  clock.advance(5_000);
  assert.equal(it.isLost, undefined);
  it.lose("ended");
  it.renew(it.now());
  it.lose("closed");
  assert.equal(it.isLost, "ended");
});

test("suspended time counts", () => {
  const { clock, lease: it } = lease();
  clock.advance(1_000);
  clock.suspend(7_999);
  assert.equal(it.isLost, undefined);
  clock.suspend(1);
  assert.equal(it.isLost, "not_renewed");
});

test("a clock that is set back takes nothing away and gives nothing", () => {
  const { clock, lease: it } = lease();
  clock.suspend(-100_000);
  clock.advance(8_999);
  assert.equal(it.isLost, undefined);
  clock.advance(1);
  assert.equal(it.isLost, "not_renewed");
});

test("the waiting learn of the loss when it comes", async () => {
  const { clock, lease: it } = lease();
  clock.advance(3_000);
  it.renew(it.now());
  assert.equal(it.signal.aborted, false);
  clock.advance(8_999);
  assert.equal(it.signal.aborted, false);
  clock.advance(1);
  assert.ok(it.signal.aborted, "by its timer: no caller has asked");
  assert.equal(await it.lost, "not_renewed");
  const reason: unknown = it.signal.reason;
  assert.ok(reason instanceof SeshatError && reason.kind === "session_lost" && reason.lost === "not_renewed");
  assert.equal(clock.timers, 0, "a lost lease leaves no timer behind");
});

test("the waiting learn of a suspension within a second after it", () => {
  const { clock, lease: it } = lease();
  clock.advance(2_500);
  clock.suspend(60_000);
  clock.advance(1_000);
  assert.ok(it.signal.aborted);
});

test("a renewal is due when a third of the TTL has passed", async () => {
  const { clock, lease: it } = lease();
  let due = 0;
  const wait = () => it.due().then(() => (due += 1));
  void wait();
  clock.advance(3_333);
  await Promise.resolve();
  assert.equal(due, 0);
  clock.advance(1);
  await new Promise(setImmediate);
  assert.equal(due, 1);
  it.renew(it.now());
  void wait();
  clock.advance(3_333);
  await new Promise(setImmediate);
  assert.equal(due, 1, "it begins again");
  it.lose("closed");
  await new Promise(setImmediate);
  assert.equal(due, 2, "the loss ends the wait");
});

test("the clocks of the system run", () => {
  const [monotonic, suspended] = [systemClock.monotonic(), systemClock.suspended()];
  while (systemClock.suspended() === suspended || systemClock.monotonic() === monotonic) {
    // They have steps.
  }
  assert.ok(systemClock.monotonic() > monotonic && systemClock.suspended() > suspended);
});
