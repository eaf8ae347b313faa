// Scans: the keys of a range, one by one or at once.
//
// The first part of the answer comes with an ordinary call: it is repeated until a leader answers. The other parts follow on
// the stream of that answer, as fast as they are taken. If the stream breaks before its end, what is left can only be read
// at a later moment: then the scan ends.

import { call, note } from "./call.js";
import { type Entry, entry } from "./entries.js";
import { cancelled, SeshatError } from "./errors.js";
import type { Fault } from "./fault.js";
import type { ScanResponse } from "./gen/seshat/kv/v1/kv_service_pb.js";
import type { KeyRange } from "./key_range.js";
import type { Limits, Nodes } from "./nodes.js";
import { Stream } from "./stream.js";
import { now } from "./time.js";

/** The options of a scan. */
export interface ScanOptions extends Limits {
  /** Reads at most so many keys, the first ones of the range. Default: all. */
  limit?: number;
  /** Leaves out the values: those of the entries are empty. */
  keysOnly?: boolean;
}

/**
 * A scan: the entries of a range in ascending order of their keys, all of one moment. Each `for await` reads anew, in bounded
 * memory; {@link collect} reads all at once.
 *
 * The call is repeated like any read until the first entries have come. If the connection is lost after that, or the node
 * stops or takes more than 60 s because the entries are not taken, the loop ends with a `SeshatError` of kind `interrupted`:
 * begin again. The timeout limits the wait for each part of the answer, not the whole scan.
 */
export class Scan implements AsyncIterable<Entry> {
  #revision: bigint | undefined;
  #more = false;

  /** @internal */
  constructor(
    readonly nodes: Nodes,
    readonly range: KeyRange,
    readonly options: ScanOptions,
  ) {}

  /** The revision of the state that the last entry was read from. Absent before the first part has come. */
  get revision(): bigint | undefined {
    return this.#revision;
  }

  /** Whether the range had more keys than the limit. Known at the end; `false` before it. */
  get hasMore(): boolean {
    return this.#more;
  }

  /** The entries one by one. */
  async *[Symbol.asyncIterator](): AsyncGenerator<Entry, void, undefined> {
    for await (const part of this.#parts(false)) {
      for (const message of part.entries) {
        yield entry(message);
      }
    }
  }

  /**
   * All entries at once. They have to fit into memory. If the leader is lost on the way, the scan begins again, until the
   * timeout has passed since its first beginning.
   *
   * @throws SeshatError: the entries could not be read.
   */
  async collect(): Promise<Entry[]> {
    return (await this.#whole(false)).entries;
  }

  /** @internal The number of keys, at most the limit. Only the number is sent. */
  async count(): Promise<bigint> {
    return (await this.#whole(true)).count;
  }

  async #whole(countOnly: boolean): Promise<{ entries: Entry[]; count: bigint }> {
    const deadline = now() + (this.options.timeout ?? this.nodes.settings.timeout);
    for (;;) {
      try {
        const entries: Entry[] = [];
        let count = 0n;
        for await (const part of this.#parts(countOnly)) {
          entries.push(...part.entries.map(entry));
          ({ count } = part);
        }
        return { entries, count };
      } catch (error) {
        const isInterrupted = error instanceof SeshatError && error.kind === "interrupted";
        if (!isInterrupted || now() >= deadline) {
          throw error;
        }
      }
    }
  }

  async *#parts(countOnly: boolean): AsyncGenerator<ScanResponse, void, undefined> {
    this.#more = false;
    if (this.options.limit === 0) {
      return;
    }
    const { signal, timeout = this.nodes.settings.timeout } = this.options;
    const { stream, first } = await this.#begin(countOnly);
    const { controller, end } = this.nodes.begin(signal);
    stream.endWith(controller.signal);
    try {
      let part = first;
      for (;;) {
        this.#revision = part.revision;
        // Only the last part tells the count, and without a key there is one part.
        const isLast = part.count > 0n || !part.more;
        this.#more = isLast && part.more;
        yield part;
        if (isLast) {
          return;
        }
        part = await this.#next(stream, controller.signal, timeout);
      }
    } finally {
      end();
      stream.end();
    }
  }

  #begin(countOnly: boolean) {
    const { limit = 0, keysOnly = false } = this.options;
    const query = { range: this.range.message, limit: BigInt(limit), keysOnly, countOnly };
    return this.nodes.run(this.options, (scope) =>
      call({ ...scope, purpose: "streams" }, "read", (node) =>
        // Shorter than the wait for the answer: a node without room for another scan says so in time.
        Stream.open(node, node.kv.scan({ ...query, ...node.named }, node.limited(0.9))),
      ),
    );
  }

  async #next(stream: Stream<ScanResponse>, signal: AbortSignal, timeout: number): Promise<ScanResponse> {
    try {
      return await stream.next(timeout);
    } catch (error) {
      const fault = error as Fault;
      if (signal.aborted) {
        throw cancelled("no", signal.reason);
      }
      const { address } = stream.node;
      note(this.nodes, stream.node, fault, timeout);
      if (fault.retry !== "later") {
        throw fault.ended(address);
      }
      const message = `the scan was cut off, begin it again: ${address}: ${fault.message}`;
      throw new SeshatError("interrupted", "no", message, {
        refusal: fault.answered ? fault.refusal(address) : undefined,
      });
    }
  }
}
