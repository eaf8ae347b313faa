// The messages of nodes, put together to news that mislead no caller.
//
// The changes of one revision may come in several messages, and the connection may be lost between them. They are passed on
// whole, so a caller stands at a revision at any time, or is told that it does not: between a reset or a part of the state
// and the next `synced`. After that the watch cannot go on elsewhere from a revision, and begins again.

import { entry } from "../entries.js";
import { Fault } from "../fault.js";
import type { WatchEvents, WatchResponse, WatchState, WatchSynced } from "../gen/seshat/kv/v1/watch_pb.js";
import { type Event, event, type Position, type Update } from "./update.js";

/** Most bytes of keys and values that one revision changes: no node accepts a larger transaction. */
const MAX_REVISION_BYTES = 256 << 20;

interface Half {
  readonly revision: bigint;
  readonly events: Event[];
  bytes: number;
}

/** What the caller has, and what it has not been told yet. */
export class Assembly {
  #position: Position | undefined;
  #floor: bigint;
  /** The changes of a revision, of which more follow. */
  #half: Half | undefined;

  /** For a caller whose map stands at `position`, and that knows of the revision `floor`. */
  constructor(position: Position | undefined, floor: bigint) {
    this.#position = position;
    this.#floor = max(floor, position?.revision ?? 0n);
  }

  /** Where the caller's map stands. Absent: it is incomplete. */
  get position(): Position | undefined {
    return this.#position;
  }

  /** The highest revision that the caller knows: it is not told of an earlier state. */
  get floor(): bigint {
    return this.#floor;
  }

  /** Forgets what the lost connection has not completed. */
  cutOff(): void {
    this.#half = undefined;
  }

  /**
   * Takes the next message of a connection. Returns what the caller is to be told, if that is complete.
   *
   * @throws Fault: no node that works sends this here.
   */
  add({ message }: WatchResponse): Update | undefined {
    switch (message.case) {
      case "reset":
        this.#half = undefined;
        this.#position = undefined;
        return { type: "reset" };
      case "state":
        return this.#state(message.value);
      case "synced":
        return this.#synced(message.value);
      case "events":
        return this.#events(message.value);
      case "progress":
        this.#advance(message.value.revision);
        return { type: "progress", revision: message.value.revision };
      case undefined:
        throw Fault.broken("an empty message");
    }
  }

  #state({ entries, deleted }: WatchState): Update {
    this.#half = undefined;
    this.#position = undefined;
    for (const { revision } of entries) {
      this.#floor = max(this.#floor, revision);
    }
    return { type: "state", entries: entries.map(entry), deleted };
  }

  #synced({ clusterId, revision }: WatchSynced): Update {
    if (this.#half !== undefined || revision < this.#floor) {
      throw Fault.broken("a state that is older than what was known");
    }
    const position = { clusterId, revision };
    this.#position = position;
    this.#floor = revision;
    return { type: "synced", position };
  }

  #events({ revision, events, more }: WatchEvents): Update | undefined {
    const whole = this.#begun(revision);
    for (const message of events) {
      const change = event(message);
      if (change === undefined) {
        throw Fault.broken("an event without a key");
      }
      whole.events.push(change);
      whole.bytes += change.type === "set" ? change.entry.key.length + change.entry.value.length : change.key.length;
    }
    if (more) {
      if (whole.bytes > MAX_REVISION_BYTES) {
        throw Fault.broken("more changes in one revision than a node accepts");
      }
      this.#half = whole;
      return undefined;
    }
    this.#half = undefined;
    this.#advance(revision);
    return { type: "events", revision, events: whole.events };
  }

  #begun(revision: bigint): Half {
    if (this.#half?.revision === revision) {
      return this.#half;
    }
    if (this.#half === undefined && this.#position !== undefined && this.#position.revision < revision) {
      return { revision, events: [], bytes: 0 };
    }
    throw Fault.broken("changes out of order");
  }

  /** The caller's map stands at `revision`. */
  #advance(revision: bigint): void {
    if (this.#half !== undefined || this.#position === undefined || revision < this.#position.revision) {
      throw Fault.broken("a revision out of order");
    }
    this.#position = { ...this.#position, revision };
    this.#floor = max(this.#floor, revision);
  }
}

function max(a: bigint, b: bigint): bigint {
  return a > b ? a : b;
}
