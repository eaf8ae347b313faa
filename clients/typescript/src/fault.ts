// The failure of one call to one node, derived from its gRPC status.
//
// The typed detail of a refusal says whether a write was applied. Without a detail, a write counts as not applied only if
// it surely failed before anything was sent: no connection was made, or the status code means that the request was not
// begun.

import { fromBinary } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import { checked } from "./endpoints.js";
import { type Applied, type Reason, type Refusal, SeshatError } from "./errors.js";
import {
  Applied as AppliedMessage,
  type ErrorDetail,
  ErrorDetailSchema,
  type OtherCluster,
} from "./gen/seshat/kv/v1/error_pb.js";
import type { PipelineError } from "./gen/seshat/kv/v1/kv_service_pb.js";

/** Whether a retry can succeed: later, at another endpoint, or not at all because the request is at fault. */
export type Retry = "later" | "elsewhere" | "nowhere";

interface Parts {
  readonly code?: Code | undefined;
  readonly detail?: ErrorDetail | undefined;
  readonly silent?: boolean;
}

/** How one call to one node failed. */
export class Fault extends Error {
  /** The status code, if a node or a proxy gave one: then the connection to it works. */
  readonly code: Code | undefined;
  readonly detail: ErrorDetail | undefined;
  /** Whether there was no answer in time. */
  readonly silent: boolean;

  constructor(
    message: string,
    readonly applied: Applied,
    readonly retry: Retry,
    parts: Parts = {},
  ) {
    super(message);
    this.code = parts.code;
    this.detail = parts.detail;
    this.silent = parts.silent ?? false;
  }

  /** There was no answer in time. If nothing was sent, the write was not applied. */
  static silence(applied: Applied = "unknown"): Fault {
    return new Fault("no answer in time", applied, "later", { silent: true });
  }

  /** The connection ended while a request was in flight, or its node answers nonsense. */
  static broken(why: string): Fault {
    return new Fault(`the connection broke: ${why}`, "unknown", "later");
  }

  /** The failure that a call to a node has thrown. */
  static from(error: unknown): Fault {
    if (error instanceof Fault) {
      return error;
    }
    if (!(error instanceof ConnectError)) {
      return Fault.broken(words(error instanceof Error ? error.message : String(error)));
    }
    if (isNotSent(error)) {
      return new Fault(words(error.rawMessage), "no", "later");
    }
    const detail = detailOf(error);
    if (detail !== undefined) {
      return Fault.typed(error.code, words(error.rawMessage), detail);
    }
    // What a node or a proxy has sent has headers; an error of this machine has none.
    const { done } = error.metadata.keys().next();
    return done === true
      ? Fault.broken(words(error.rawMessage))
      : Fault.untyped(error.code, words(error.rawMessage) || Code[error.code]);
  }

  /** The failure of one command of a pipeline. */
  static ofCommand(error: PipelineError): Fault {
    const code = CODES.get(error.code) ?? Code.Unknown;
    return error.detail === undefined
      ? Fault.untyped(code, words(error.message))
      : Fault.typed(code, words(error.message), error.detail);
  }

  private static typed(code: Code, message: string, detail: ErrorDetail): Fault {
    const applied = detail.applied === AppliedMessage.NO ? "no" : "unknown";
    return new Fault(message, applied, retry(code, detail), { code, detail });
  }

  private static untyped(code: Code, message: string): Fault {
    switch (code) {
      case Code.Unimplemented:
      case Code.Unauthenticated:
      case Code.PermissionDenied:
        return new Fault(message, "no", "elsewhere", { code });
      case Code.InvalidArgument:
      case Code.OutOfRange:
        return new Fault(message, "no", "nowhere", { code });
      default:
        return new Fault(message, "unknown", "later", { code });
    }
  }

  /** Whether the node itself answered. */
  get answered(): boolean {
    return this.code !== undefined;
  }

  /** The address of the leader, if the node names one that is well formed. */
  get leaderAddress(): string | undefined {
    const reason = this.detail?.reason;
    if (reason?.case !== "notLeader" || reason.value.leaderAddr === undefined) {
      return undefined;
    }
    return checked(reason.value.leaderAddr);
  }

  /** The cluster that answers, if it is another one than the request names. */
  get otherCluster(): OtherCluster | undefined {
    const reason = this.detail?.reason;
    return reason?.case === "otherCluster" ? reason.value : undefined;
  }

  /** The id of the cluster that answers, if it was recovered from the one that the request names. */
  get successor(): bigint | undefined {
    const other = this.otherCluster;
    return other?.successor === true ? other.clusterId : undefined;
  }

  /** Whether the next attempt has to go to another node. The leader that is overloaded is there. */
  get endsLeadership(): boolean {
    return this.detail?.reason.case !== "overloaded" && this.retry !== "nowhere";
  }

  /** Whether a node refused what another one may serve: then it helps to reach another node at the same address. */
  get sendsElsewhere(): boolean {
    return this.answered && this.retry === "later" && this.endsLeadership;
  }

  /** The same fault with this outcome. */
  as(applied: Applied, message = this.message): Fault {
    return new Fault(message, applied, this.retry, this);
  }

  /** The refusal that the caller gets, for a fault that `endpoint` answered with. */
  refusal(endpoint: string): Refusal {
    const { detail, message } = this;
    return { endpoint, code: this.code ?? Code.Unavailable, reason: reasonOf(detail), detail, message };
  }

  /** The error of a call whose last attempt, at `endpoint`, may not be repeated. */
  ended(endpoint: string): SeshatError {
    const message = `${endpoint}: ${this.message}`;
    if (this.answered) {
      return new SeshatError("refused", this.applied, message, { refusal: this.refusal(endpoint) });
    }
    return new SeshatError(this.silent ? "deadline" : "unreachable", this.applied, message);
  }
}

/** The error of a call for which no connection was made, so that nothing was sent. */
export function notSent(why: string): ConnectError {
  const error = new ConnectError(why, Code.Unavailable);
  NOT_SENT.add(error);
  return error;
}

/** `instanceof` cannot tell, as every ConnectError counts as an instance of every class that extends it. */
export function isNotSent(error: unknown): boolean {
  return error instanceof Error && NOT_SENT.has(error);
}

const CODES: ReadonlyMap<number, Code> = new Map(
  Object.values(Code)
    .filter((code) => typeof code === "number")
    .map((code) => [code, code]),
);

const NOT_SENT = new WeakSet<Error>();

function detailOf(error: ConnectError): ErrorDetail | undefined {
  for (const detail of error.details) {
    if ("type" in detail && detail.type === ErrorDetailSchema.typeName) {
      try {
        return fromBinary(ErrorDetailSchema, detail.value);
      } catch {
        return undefined;
      }
    }
  }
  return undefined;
}

type Case = NonNullable<ErrorDetail["reason"]["case"]>;

/** Of each reason its name, and whether a retry can succeed. */
const REASONS: Record<Case, readonly [Reason, Retry]> = {
  notLeader: ["not_leader", "later"],
  noQuorum: ["no_quorum", "later"],
  overloaded: ["overloaded", "later"],
  forming: ["forming", "later"],
  otherCluster: ["other_cluster", "later"],
  shuttingDown: ["shutting_down", "later"],
  full: ["full", "nowhere"],
  tooLarge: ["too_large", "nowhere"],
  invalidRequest: ["invalid_request", "nowhere"],
  failedPrecondition: ["failed_precondition", "nowhere"],
  sessionExpired: ["session_expired", "nowhere"],
};

function reasonOf(detail: ErrorDetail | undefined): Reason | undefined {
  const reason = detail?.reason.case;
  return reason === undefined ? undefined : REASONS[reason][0];
}

function retry(code: Code, detail: ErrorDetail): Retry {
  if (detail.reason.case !== undefined) {
    return REASONS[detail.reason.case][1];
  }
  // A reason of a newer version: its status code decides.
  switch (code) {
    case Code.Unavailable:
    case Code.ResourceExhausted:
    case Code.Aborted:
    case Code.DeadlineExceeded:
      return "later";
    default:
      return "nowhere";
  }
}

/** Text from another machine, on one line and without characters that would steer a terminal. */
function words(text: string): string {
  return text.replace(/\p{Cc}/gu, " ");
}
