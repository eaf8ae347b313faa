// Clocks for leases: the monotonic one, and one that also counts while the machine is suspended.

import { openSync, readSync } from "node:fs";
import { platform } from "node:os";
import { now, timer } from "./time.js";

/** The clocks of a lease, in milliseconds since moments of the past that stay the same. */
export interface Clock {
  /** The monotonic clock, which moves timers. */
  monotonic(): number;
  /** A clock that also counts while the machine is suspended. */
  suspended(): number;
  /** Calls `then` in `ms` of the monotonic clock. Returns what forgets it. */
  timer(ms: number, then: () => void): () => void;
}

/** The clocks of this machine. */
export const systemClock: Clock = { monotonic: now, suspended: counting(), timer };

/**
 * The clock that counts suspended time. Linux: the uptime of the kernel (`CLOCK_BOOTTIME`), in steps of 10 ms.
 *
 * Elsewhere, or without `/proc`: the time of day. Where that is set forwards, a lease ends early, which is safe. Where it
 * is set back, it counts less, and the monotonic clock decides: that counts suspended time too on macOS and Windows.
 */
function counting(): () => number {
  if (platform() !== "linux") {
    return Date.now;
  }
  try {
    const uptime = openSync("/proc/uptime", "r");
    const text = Buffer.alloc(32);
    const read = () => {
      const length = readSync(uptime, text, 0, text.length, 0);
      return Number.parseFloat(text.toString("latin1", 0, length)) * 1_000;
    };
    return Number.isFinite(read()) ? read : Date.now;
  } catch {
    return Date.now;
  }
}

/** A moment on both clocks. */
export interface Moment {
  readonly monotonic: number;
  readonly suspended: number;
}

/** The present moment. */
export function moment(clock: Clock): Moment {
  return { monotonic: clock.monotonic(), suspended: clock.suspended() };
}

/** The milliseconds since `then`, by the clock that has counted more. */
export function elapsed(clock: Clock, then: Moment): number {
  return Math.max(clock.monotonic() - then.monotonic, clock.suspended() - then.suspended);
}
