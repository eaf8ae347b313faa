// What a watch tells its caller.

import { type Entry, entry } from "../entries.js";
import type { SeshatError } from "../errors.js";
import { Cause, type Event as EventMessage } from "../gen/seshat/kv/v1/watch_pb.js";

/**
 * The next news of a watch. A caller that applies them in order to an empty map, and empties it at each `reset`, has the
 * range as it is at the revision of each `synced`, `events` and `progress`. A `Mirror` does so.
 */
export type Update =
  /** The map is empty: the state follows. */
  | { readonly type: "reset" }
  /** A part of the state: keys that are bound, and keys that are not. Until the next `synced` the map shows no moment. */
  | { readonly type: "state"; readonly entries: readonly Entry[]; readonly deleted: readonly Uint8Array[] }
  /** The map is complete. */
  | { readonly type: "synced"; readonly position: Position }
  /** All changes of one revision, one a key. The revision is higher than every one before. */
  | { readonly type: "events"; readonly revision: bigint; readonly events: readonly Event[] }
  /** Nothing has changed up to this revision. The node has just heard of a leader. */
  | { readonly type: "progress"; readonly revision: bigint }
  /**
   * No node serves the watch at the moment, so the map gets old. The watch goes on by itself. Comes once for each outage,
   * when the nodes were asked for the timeout of the client.
   */
  | { readonly type: "disconnected"; readonly error: SeshatError };

/** Where a watch stands: the caller's map equals the range at this revision of this cluster. */
export interface Position {
  readonly clusterId: bigint;
  readonly revision: bigint;
}

/**
 * Why a key was removed: a client has deleted it, its TTL has passed, the session that owned it has ended, or for a reason
 * that this version does not know.
 */
export type Removal = "deleted" | "expired" | "session_ended" | "other";

/** The change of a key: it was bound, or removed at this revision. */
export type Event =
  | { readonly type: "set"; readonly entry: Entry }
  | { readonly type: "removed"; readonly key: Uint8Array; readonly revision: bigint; readonly cause: Removal };

const REMOVALS: Partial<Record<Cause, Removal>> = {
  [Cause.DELETED]: "deleted",
  [Cause.EXPIRED]: "expired",
  [Cause.SESSION_ENDED]: "session_ended",
};

/** @internal Absent: it has no key. */
export function event(message: EventMessage): Event | undefined {
  if (message.entry === undefined) {
    return undefined;
  }
  if (message.cause === Cause.SET) {
    return { type: "set", entry: entry(message.entry) };
  }
  const { key, revision } = message.entry;
  return { type: "removed", key, revision, cause: REMOVALS[message.cause] ?? "other" };
}
