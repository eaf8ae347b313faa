// The settings of a client, with their bounds.

import { type Clock, systemClock } from "./clock.js";
import type { Backoff } from "./time.js";

/**
 * Most claims whose state a client asks for at once. A node takes 4096 calls of one connection by default, and scans and
 * observers use the same one. A question without a place there would have no answer in time, as if its node were gone.
 */
const MAX_AWAITS = 3_072;

/** The options of a client. Times are in milliseconds. */
export interface ClientOptions {
  /** The deadline of each whole call, searches and retries included. Default: 5000. */
  timeout?: number;
  /** Longest wait for a connection. Default: 1000. */
  connectTimeout?: number;
  /**
   * How long one node may take to answer before another one is tried, where a retry is safe. It is never more than a
   * third of the time that is left, and doubles after each timeout. Default: 1000.
   */
  attemptTimeout?: number;
  /**
   * How long an answer of the leader is trusted. A write without a session is sent once, so it should reach a leader that
   * answers: if the last answer is older, a read goes ahead of the write. Default: 1000.
   */
  trust?: number;
  /** First and longest pause between two attempts. Each is drawn at random between half of it and all. Default: 20, 500. */
  backoff?: { min: number; max: number };
  /**
   * The id of the cluster that the client belongs to, as `seshat status` shows it. Without it, the client takes the first
   * cluster that answers.
   */
  cluster?: bigint;
  /** As `cluster`, but the client does not follow a recovery either: see {@link onRecovery}. */
  onlyCluster?: bigint;
  /**
   * An operator has recovered the cluster `successor` from the one of this client, which follows it: acknowledged writes
   * may be lost, and sessions have ended. Default: a warning of the process (`process.emitWarning`).
   */
  onRecovery?: (former: bigint, successor: bigint) => void;
}

/** The settings of a client. */
export interface Settings {
  readonly timeout: number;
  readonly connectTimeout: number;
  readonly attemptTimeout: number;
  readonly trust: number;
  readonly backoff: Backoff;
  /** Claims whose state is asked for at once. */
  readonly awaits: number;
  readonly cluster: bigint | undefined;
  /** Whether a cluster that was recovered from that one takes its place. */
  readonly follows: boolean;
  readonly onRecovery: (former: bigint, successor: bigint) => void;
  readonly clock: Clock;
}

/** The settings that `options` mean. */
export function settings(options: ClientOptions): Settings {
  const max = Math.max(options.backoff?.max ?? 500, 1);
  return {
    timeout: Math.max(options.timeout ?? 5_000, 0),
    connectTimeout: Math.max(options.connectTimeout ?? 1_000, 1),
    attemptTimeout: Math.max(options.attemptTimeout ?? 1_000, 1),
    trust: Math.max(options.trust ?? 1_000, 0),
    backoff: { min: Math.min(Math.max(options.backoff?.min ?? 20, 1), max), max },
    awaits: MAX_AWAITS,
    cluster: options.onlyCluster ?? options.cluster,
    follows: options.onlyCluster === undefined,
    onRecovery: options.onRecovery ?? warn,
    clock: systemClock,
  };
}

function warn(former: bigint, successor: bigint): void {
  const [old, now] = [former, successor].map((id) => id.toString(16).padStart(16, "0"));
  process.emitWarning(
    `the cluster ${String(old)} was recovered by an operator as ${String(now)}: writes that were acknowledged before ` +
      "may be lost, and its sessions are over. This client goes on with what was recovered",
    "SeshatWarning",
  );
}
