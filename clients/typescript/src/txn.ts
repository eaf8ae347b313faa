// Transactions: conditions, operations, and the outcome.

import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { type Bytes, toBytes } from "./bytes.js";
import { type Deleted, type Entry, entry } from "./entries.js";
import { Fault } from "./fault.js";
import { type TxnRequest, TxnRequestSchema, type TxnResponse } from "./gen/seshat/kv/v1/kv_service_pb.js";
import type {
  ConditionSchema,
  OperationResult as ResultMessage,
  OperationSchema,
  SetOperationSchema,
} from "./gen/seshat/kv/v1/txn_pb.js";
import { duration } from "./time.js";

/** A lock and a fencing token of it; a `Lock` is one. */
export interface Token {
  /** The name of the lock. */
  readonly name: string;
  /** The fencing token. */
  readonly token: bigint;
}

/** A condition of a transaction: see the functions of the same name. It tests a key, or a lock, before the transaction. */
export type Condition =
  | { readonly test: "exists"; readonly key: Bytes; readonly exists: boolean }
  | { readonly test: "revision"; readonly key: Bytes; readonly revision: bigint }
  | { readonly test: "value"; readonly key: Bytes; readonly value: Bytes }
  | { readonly test: "held"; readonly name: string; readonly token: bigint };

export const Condition = {
  /** `key` is bound. */
  exists: (key: Bytes): Condition => ({ test: "exists", key, exists: true }),
  /** `key` is missing. */
  missing: (key: Bytes): Condition => ({ test: "exists", key, exists: false }),
  /** `key` was bound by the write of `revision`, and has not been written since. 0: `key` is missing. */
  revision: (key: Bytes, revision: bigint): Condition => ({ test: "revision", key, revision }),
  /** `key` is bound to exactly `value`. */
  value: (key: Bytes, value: Bytes): Condition => ({ test: "value", key, value }),
  /** The lock is held under exactly this token: the write of a client that has lost it does not take effect. */
  held: ({ name, token }: Token): Condition => ({ test: "held", name, token }),
} as const;

/**
 * How long a key stays bound, unless it is written again: for ever; for so many milliseconds, 1000 to 3650 days; as long as
 * a living session; or as long as before.
 */
export interface Lifetime {
  /** For so many milliseconds. */
  readonly ttl?: number | undefined;
  /** As long as this living session. */
  readonly owner?: { readonly id: bigint } | undefined;
  /** As long as before: a TTL goes on, and does not begin again. A missing key is bound for ever. */
  readonly keepLifetime?: boolean | undefined;
}

/** One operation of a transaction: see the functions of the same name. It sees the effects of those before it. */
export type Operation =
  | { readonly type: "set"; readonly key: Bytes; readonly value: Bytes; readonly lifetime: Lifetime }
  | { readonly type: "get"; readonly key: Bytes }
  | { readonly type: "delete"; readonly key: Bytes };

export const Operation = {
  /** Binds `key` to `value`, for ever unless it has a lifetime. */
  set: (key: Bytes, value: Bytes, lifetime: Lifetime = {}): Operation => ({ type: "set", key, value, lifetime }),
  /** Reads `key`. */
  get: (key: Bytes): Operation => ({ type: "get", key }),
  /** Removes `key`. A missing key is no error. */
  delete: (key: Bytes): Operation => ({ type: "delete", key }),
} as const;

/**
 * A transaction: `success` is carried out if all `conditions` hold, otherwise `failure`. It is atomic, and has one revision.
 *
 * Conditions and operations together are at most 128. Neither `success` nor `failure` writes a key twice. What the operations
 * read is at most 2 MiB, and 64 KiB for a write in a session. A node refuses a transaction that breaks a bound, surely not
 * applied.
 */
export interface Txn {
  readonly conditions?: readonly Condition[];
  readonly success?: readonly Operation[];
  readonly failure?: readonly Operation[];
}

/** The result of one operation of a transaction. */
export type OperationResult =
  | { readonly type: "set" }
  | { readonly type: "get"; readonly entry: Entry | undefined }
  | { readonly type: "delete"; readonly existed: boolean };

/** The outcome of a transaction. */
export interface TxnOutcome {
  /** Whether all conditions held. */
  readonly succeeded: boolean;
  /** One for each operation of `success`, or of `failure` if a condition did not hold, in order. */
  readonly results: readonly OperationResult[];
  /**
   * Revision of the transaction, and of every key that it has bound. If it writes nothing: the revision up to which it
   * reflects the writes.
   */
  readonly revision: bigint;
}

/** @internal Whether it may change anything. Otherwise it is a read. */
export function isWrite({ success = [], failure = [] }: Txn): boolean {
  return [...success, ...failure].some((operation) => operation.type !== "get");
}

/** @internal */
export function txnRequest(txn: Txn): TxnRequest {
  return create(TxnRequestSchema, {
    conditions: (txn.conditions ?? []).map(conditionMessage),
    success: (txn.success ?? []).map(operationMessage),
    failure: (txn.failure ?? []).map(operationMessage),
  });
}

/**
 * @internal The outcome that `response` tells.
 *
 * @throws Fault if it is no answer to this transaction: nothing is known of it then.
 */
export function txnOutcome(txn: Txn, response: TxnResponse): TxnOutcome {
  const { succeeded, revision } = response;
  const operations = (succeeded ? txn.success : txn.failure) ?? [];
  const results = response.results.map((message, index) => result(operations[index], message));
  if (results.length !== operations.length) {
    throw astray();
  }
  return { succeeded, results, revision };
}

function result(operation: Operation | undefined, { result }: ResultMessage): OperationResult {
  if (operation?.type !== result.case || result.case === undefined) {
    throw astray();
  }
  switch (result.case) {
    case "set":
      return { type: "set" };
    case "get":
      return { type: "get", entry: result.value.entry && entry(result.value.entry) };
    case "delete":
      return { type: "delete", existed: result.value.existed };
  }
}

/** @internal The removal that the only operation of a transaction has made. */
export function removal({ results, revision }: TxnOutcome): Deleted {
  const [only] = results;
  return { existed: only?.type === "delete" && only.existed, revision };
}

/** @internal */
export function astray(): Fault {
  return Fault.broken("an answer to nothing that was asked");
}

function conditionMessage(condition: Condition): MessageInitShape<typeof ConditionSchema> {
  if (condition.test === "held") {
    const { name, token } = condition;
    return { condition: { case: "lock", value: { name, token } } };
  }
  return { condition: { case: "key", value: { key: toBytes(condition.key), test: keyTest(condition) } } };
}

function keyTest(condition: Exclude<Condition, { test: "held" }>) {
  switch (condition.test) {
    case "exists":
      return { case: "exists" as const, value: condition.exists };
    case "revision":
      return { case: "revision" as const, value: condition.revision };
    case "value":
      return { case: "value" as const, value: toBytes(condition.value) };
  }
}

function operationMessage(operation: Operation): MessageInitShape<typeof OperationSchema> {
  const key = toBytes(operation.key);
  switch (operation.type) {
    case "set": {
      const value = { key, value: toBytes(operation.value), lifetime: lifetimeMessage(operation.lifetime) };
      return { operation: { case: "set", value } };
    }
    case "get":
      return { operation: { case: "get", value: { key } } };
    case "delete":
      return { operation: { case: "delete", value: { key } } };
  }
}

type LifetimeMessage = NonNullable<MessageInitShape<typeof SetOperationSchema>["lifetime"]>;

function lifetimeMessage({ ttl, owner, keepLifetime }: Lifetime): LifetimeMessage {
  if (ttl !== undefined) {
    return { case: "ttl", value: duration(ttl) };
  }
  if (owner !== undefined) {
    return { case: "owner", value: owner.id };
  }
  return keepLifetime === true ? { case: "keep", value: {} } : { case: undefined };
}

/** @internal Whether it is another lifetime than for ever. */
export function isLimited({ ttl, owner, keepLifetime }: Lifetime): boolean {
  return ttl !== undefined || owner !== undefined || keepLifetime === true;
}
