// Calls that acquire a lock.

import { type Bytes, toBytes } from "./bytes.js";
import { Claim } from "./claim.js";
import { sessionLost } from "./errors.js";
import { Lock } from "./lock.js";
import type { Limits } from "./nodes.js";
import type { LivingSession } from "./session.js";
import { linked } from "./time.js";

/** The options of a lock. `timeout` is that of each of its requests; the wait for the lock has none. */
export interface LockOptions extends Limits {
  /** What others see of the holder: at most 4096 bytes, such as the name of this machine. Default: nothing. */
  value?: Bytes;
}

/** The options of an attempt to acquire a lock. */
export interface TryLockOptions extends LockOptions {
  /** Gives up after so many milliseconds, at most 10 years. Default: 0. */
  maxWait?: number;
}

/** Acquires a lock, and waits for it as long as the session lives. */
export async function acquire(
  session: LivingSession,
  isAlone: boolean,
  name: string,
  options: LockOptions,
): Promise<Lock> {
  const lock = await attempt(session, isAlone, name, options, undefined);
  if (lock === undefined) {
    // Only the end of the session ends a claim that waits for as long.
    throw sessionLost("ended");
  }
  return lock;
}

/** Acquires a lock if it gets free in time. */
export function tryAcquire(
  session: LivingSession,
  isAlone: boolean,
  name: string,
  options: TryLockOptions,
): Promise<Lock | undefined> {
  return attempt(session, isAlone, name, options, options.maxWait ?? 0);
}

async function attempt(
  session: LivingSession,
  isAlone: boolean,
  name: string,
  { value = "", signal, timeout }: LockOptions,
  maxWait: number | undefined,
): Promise<Lock | undefined> {
  const { controller, unlink } = linked(signal, session.signal);
  const claim = new Claim(session, isAlone, { name, value: toBytes(value), maxWait });
  try {
    const token = await claim.make({ signal: controller.signal, timeout });
    return token === undefined ? undefined : new Lock(claim, token);
  } finally {
    unlink();
  }
}
