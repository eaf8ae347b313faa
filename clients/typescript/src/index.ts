/** A client of Seshat, a replicated key-value store: see {@link Client}. */

import "./polyfill.js";

export { type LockOptions, type TryLockOptions } from "./acquire.js";
export { type Answer, Command } from "./batch.js";
export { type Bytes, text } from "./bytes.js";
export { Client } from "./client.js";
export { type Deleted, type Entry, type Found, type Written } from "./entries.js";
export { type Applied, type Kind, type Lost, type Reason, type Refusal, SeshatError } from "./errors.js";
export type { Feed } from "./feed.js";
export { KeyRange } from "./key_range.js";
export type { Leadership, Lock } from "./lock.js";
export type { LockInfo } from "./lock_list.js";
export type { Limits } from "./nodes.js";
export type { Holder, Holders } from "./observe.js";
export type { Pipeline, PipelineOptions, Submitted } from "./pipeline.js";
export type { Scan, ScanOptions } from "./scan.js";
export type { LivingSession, Session } from "./session.js";
export type { ClientOptions } from "./settings.js";
export {
  Condition,
  type Lifetime,
  Operation,
  type OperationResult,
  type Token,
  type Txn,
  type TxnOutcome,
} from "./txn.js";
export type { Mirror } from "./watch/mirror.js";
export type { Event, Position, Removal, Update } from "./watch/update.js";
export type { Watch, WatchOptions } from "./watch/watch.js";
export type { Conditional, Keys, On, SetOptions } from "./writes.js";
