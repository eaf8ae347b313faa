// Time: deadlines on the monotonic clock, timers that a signal ends, and pauses between attempts.

import { performance } from "node:perf_hooks";
import { type Duration, durationFromMs } from "@bufbuild/protobuf/wkt";
import { invalid } from "./errors.js";

/** Milliseconds on the monotonic clock. */
export function now(): number {
  return performance.now();
}

/**
 * The message of a duration, in whole milliseconds.
 *
 * @throws SeshatError of kind `invalid`: it is not finite.
 */
export function duration(ms: number): Duration {
  const whole = Math.ceil(ms);
  if (!Number.isSafeInteger(whole)) {
    throw invalid(`${String(ms)} ms is no duration`);
  }
  return durationFromMs(whole);
}

/** The longest timer that Node has, in milliseconds. */
const LONGEST_TIMER = 0x7fff_ffff;

/** Calls `then` in `ms`. Returns what forgets it. */
export function timer(ms: number, then: () => void): () => void {
  if (ms === Infinity) {
    return () => undefined;
  }
  const handle = setTimeout(then, Math.min(Math.max(0, Math.ceil(ms)), LONGEST_TIMER));
  return () => {
    clearTimeout(handle);
  };
}

const listeners = new WeakMap<AbortSignal, Set<() => void>>();

/**
 * Calls `then` when `signal` is aborted. Returns what forgets it.
 *
 * However many wait for a signal, it has one listener: Node warns of a leak from eleven on.
 */
export function onAbort(signal: AbortSignal, then: () => void): () => void {
  if (signal.aborted) {
    then();
    return () => undefined;
  }
  let waiting = listeners.get(signal);
  if (waiting === undefined) {
    const all = new Set<() => void>();
    waiting = all;
    listeners.set(signal, all);
    signal.addEventListener("abort", () => {
      for (const wake of all) {
        wake();
      }
    });
  }
  const wake = () => {
    then();
  };
  waiting.add(wake);
  return () => {
    waiting.delete(wake);
  };
}

/** Waits for `ms`, or until `signal` is aborted: then it throws the reason. */
export function sleep(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const forget = timer(ms, () => {
      unlink?.();
      resolve();
    });
    const unlink =
      signal &&
      onAbort(signal, () => {
        forget();
        reject(reasonOf(signal));
      });
  });
}

/** Why a signal was aborted. */
export function reasonOf(signal: AbortSignal | undefined): Error {
  const reason: unknown = signal?.reason;
  return reason instanceof Error ? reason : new Error(String(reason), { cause: reason });
}

/**
 * A controller that is aborted with any of `signals`, with the same reason. `unlink` forgets the signals: call it, as
 * they may live for long.
 */
export function linked(...signals: (AbortSignal | undefined)[]): {
  controller: AbortController;
  unlink: () => void;
} {
  const controller = new AbortController();
  const links: (() => void)[] = [];
  for (const signal of signals) {
    if (signal === undefined) {
      continue;
    }
    const link = onAbort(signal, () => {
      controller.abort(signal.reason);
    });
    links.push(link);
  }
  return {
    controller,
    unlink: () => {
      for (const unlink of links) {
        unlink();
      }
    },
  };
}

/** First and longest pause between two attempts, in milliseconds. */
export interface Backoff {
  readonly min: number;
  readonly max: number;
}

/** The pause after `pause`. */
export function longer(backoff: Backoff, pause: number): number {
  return Math.min(pause * 2, backoff.max);
}

/** A random time from half of `pause` to all of it: clients that failed together must not return together. */
export function jittered(pause: number, random: () => number = Math.random): number {
  return pause * (0.5 + random() / 2);
}
