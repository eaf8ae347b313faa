// Watches: a range of keys, and every change of it.

import { Feed } from "../feed.js";
import type { KeyRange } from "../key_range.js";
import type { Nodes } from "../nodes.js";
import { Reader } from "./reader.js";
import type { Position, Update } from "./update.js";

/** How often a node says that nothing has changed, in milliseconds, and what nodes accept. */
const PROGRESS_INTERVAL_MS = 5_000;
const SHORTEST_INTERVAL_MS = 100;
const LONGEST_INTERVAL_MS = 3_600_000;

/** The options of a watch. */
export interface WatchOptions {
  /** Leaves out the values: those of the entries are empty. */
  keysOnly?: boolean;
  /**
   * How often the node says that nothing has changed, in milliseconds: 100 to 3 600 000. A node that says nothing for three
   * intervals counts as lost. Default: 5000.
   */
  progressInterval?: number;
  /** Shows no state before this revision, such as that of a write of the caller: nodes are behind the leader by a little. */
  minRevision?: bigint;
  /**
   * Goes on from this position, for a caller that has kept its map. The first news are the changes since then; or, if no node
   * has all of these any more, a `reset` and the state.
   */
  resume?: Position;
  /** Ends the watch: then it throws a `SeshatError` of kind `cancelled`. */
  signal?: AbortSignal;
}

/**
 * The news of a watch: an async iterator without an end, and an open watch keeps the process alive while its news are waited
 * for.
 *
 * It connects to any node, and goes on at another one when the connection is lost, a node stops, or says nothing for three
 * progress intervals: from the {@link position} of the caller, or with a `reset` where that is not possible. It never shows a
 * state older than one that it has shown. It has no timeout. It ends with an error if no node will ever serve it.
 *
 * A program that takes the news slowly delays neither the nodes nor other calls, and does not lose the state: it gets the keys
 * that have changed in place of every change.
 */
export class Watch extends Feed<Update> {
  readonly #reader: Reader;

  /** @internal */
  constructor(nodes: Nodes, range: KeyRange, options: WatchOptions) {
    const { keysOnly = false, progressInterval = PROGRESS_INTERVAL_MS, minRevision = 0n, resume, signal } = options;
    const interval = Math.min(Math.max(Math.ceil(progressInterval), SHORTEST_INTERVAL_MS), LONGEST_INTERVAL_MS);
    const reader = new Reader(nodes, { range, keysOnly, progressInterval: interval }, resume, minRevision);
    super(nodes, signal, (ends) => reader.update(ends));
    this.#reader = reader;
  }

  /**
   * Where the caller stands, once it has applied the news so far. Absent between a `reset` or a part of the state and the next
   * `synced`. To be kept with the caller's map, to resume in another process.
   */
  get position(): Position | undefined {
    return this.#reader.position;
  }
}
