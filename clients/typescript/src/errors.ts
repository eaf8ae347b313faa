// The error of a call without an answer, and what a caller may conclude from it.

import type { Code } from "@connectrpc/connect";
import type { ErrorDetail } from "./gen/seshat/kv/v1/error_pb.js";

/**
 * Whether a write may have been applied. `"no"`: surely not, now or later, so that it is safe to make it again.
 * `"unknown"`: it may have been, or may yet be. Always `"no"` for a read.
 */
export type Applied = "no" | "unknown";

/**
 * What ended a call.
 *
 * - `refused`: a node refused the request, and a retry is useless or not safe.
 * - `unreachable`: no node could be reached in time, or the connection broke while the request was in flight.
 * - `deadline`: the deadline has passed. Nodes answered, but none served the request, or none answered in time.
 * - `unserved`: every endpoint answered that it will never serve such a request: the endpoints are not nodes, or belong
 *   to another cluster than the client.
 * - `interrupted`: a scan was cut off after its first entries. Begin it again.
 * - `session_lost`: the living session is lost. Nothing was sent, or a lock that was waited for will not be held.
 * - `invalid`: the call was invalid, and nothing was sent.
 * - `cancelled`: the caller's signal was aborted, or the client was closed. `cause` has the reason of the signal.
 */
export type Kind =
  | "refused"
  | "unreachable"
  | "deadline"
  | "unserved"
  | "interrupted"
  | "session_lost"
  | "invalid"
  | "cancelled";

/** The reason that a node gave: the name of its field in `seshat.kv.v1.ErrorDetail`. docs/ERRORS.md explains each. */
export type Reason =
  | "not_leader"
  | "no_quorum"
  | "overloaded"
  | "too_large"
  | "forming"
  | "invalid_request"
  | "shutting_down"
  | "failed_precondition"
  | "session_expired"
  | "full"
  | "other_cluster";

/**
 * Why a living session is lost.
 *
 * - `not_renewed`: no renewal was answered for 90 % of its TTL.
 * - `ended`: the cluster has ended it, or an operator has recovered another cluster from its own.
 * - `closed`: the program has closed it.
 */
export type Lost = "not_renewed" | "ended" | "closed";

/** The answer of a node that refused. */
export interface Refusal {
  /** The node, as `host:port`. */
  readonly endpoint: string;
  /** The gRPC status code. */
  readonly code: Code;
  /** The reason. Absent if it is from a later version, or from something that is not a node. */
  readonly reason: Reason | undefined;
  /** The typed detail, with what belongs to the reason. */
  readonly detail: ErrorDetail | undefined;
  /** The message for people. */
  readonly message: string;
}

interface Parts {
  readonly refusal?: Refusal | undefined;
  readonly lost?: Lost | undefined;
  readonly cause?: unknown;
}

/** Why a call was not answered. First ask {@link applied}; {@link kind} says what ended the call. */
export class SeshatError extends Error {
  override readonly name = "SeshatError";
  /** What ended the call. */
  readonly kind: Kind;
  /** Whether the write may have been applied. */
  readonly applied: Applied;
  /** The refusal that ended the call, or the last one before the deadline. */
  readonly refusal: Refusal | undefined;
  /** Why the living session is lost, if that ended the call. */
  readonly lost: Lost | undefined;

  /** @internal */
  constructor(kind: Kind, applied: Applied, message: string, parts: Parts = {}) {
    const doubt = applied === "unknown" && !message.startsWith(DOUBT) ? DOUBT : "";
    super(doubt + message, "cause" in parts ? { cause: parts.cause } : undefined);
    this.kind = kind;
    this.applied = applied;
    this.refusal = parts.refusal;
    this.lost = parts.lost;
  }

  /** The reason, if a node gave one that this version knows. */
  get reason(): Reason | undefined {
    return this.refusal?.reason;
  }

  /**
   * Whether this ends a session: the cluster has dropped it, an operator has recovered another cluster from its own, or
   * it is a living one that is lost. Open a new session then. Also true of a write whose owner does not live.
   */
  get isSessionExpired(): boolean {
    return this.kind === "session_lost" || this.reason === "session_expired" || this.isSuccessor;
  }

  /**
   * Whether another cluster answers than the one that this client or session belongs to. After a loss of all data, when
   * the cluster has formed anew, make a new client.
   */
  get isOtherCluster(): boolean {
    return this.reason === "other_cluster";
  }

  /** @internal Whether a cluster answers that was recovered from the one of this client or session. */
  get isSuccessor(): boolean {
    const reason = this.refusal?.detail?.reason;
    return reason?.case === "otherCluster" && reason.value.successor;
  }

  /** @internal Whether no node served the call in time, so that the same call may succeed later. */
  get isOutage(): boolean {
    return this.kind === "unreachable" || this.kind === "deadline";
  }

  /** @internal The same error, for a write of which an earlier attempt may have been applied. */
  inDoubt(): SeshatError {
    switch (this.kind) {
      case "refused":
      case "unreachable":
      case "deadline":
      case "cancelled":
        return new SeshatError(this.kind, "unknown", this.message, this);
      case "unserved":
        // An earlier attempt was served.
        return new SeshatError("deadline", "unknown", this.message, this);
      case "interrupted":
      case "session_lost":
      case "invalid":
        return this;
    }
  }
}

const DOUBT = "outcome unknown: ";

/** @internal */
export function invalid(message: string): SeshatError {
  return new SeshatError("invalid", "no", message);
}

/** @internal */
export function sessionLost(lost: Lost): SeshatError {
  return new SeshatError("session_lost", "no", `the session is lost: ${LOST[lost]}`, { lost });
}

const LOST: Record<Lost, string> = {
  not_renewed: "it could not be renewed in time",
  ended: "the cluster has ended it",
  closed: "it was closed",
};

/** @internal The error of a call that its caller has given up, or that ended with its client. */
export function cancelled(applied: Applied, reason: unknown): SeshatError {
  if (reason instanceof SeshatError) {
    return applied === "unknown" ? reason.inDoubt() : reason;
  }
  const why = reason instanceof Error ? reason.message : String(reason);
  return new SeshatError("cancelled", applied, `the call was cancelled: ${why}`, { cause: reason });
}
