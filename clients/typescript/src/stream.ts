// The messages of one node.

import { Fault } from "./fault.js";
import type { Node } from "./nodes.js";
import { now, onAbort, timer } from "./time.js";

/** A stream that a node sends. */
export class Stream<M> {
  readonly begun = now();
  readonly #iterator: AsyncIterator<M>;
  #unlink: () => void = () => undefined;

  constructor(
    readonly node: Node,
    messages: AsyncIterable<M>,
  ) {
    this.#iterator = messages[Symbol.asyncIterator]();
  }

  /** Opens a stream, and waits for its first message. */
  static async open<M>(node: Node, messages: AsyncIterable<M>): Promise<{ stream: Stream<M>; first: M }> {
    const stream = new Stream(node, messages);
    const next = await stream.#iterator.next();
    if (next.done === true) {
      throw Fault.broken(ENDED);
    }
    return { stream, first: next.value };
  }

  /** Ends it when `signal` is aborted. */
  endWith(signal: AbortSignal): this {
    this.#unlink = onAbort(signal, () => {
      this.end();
    });
    return this;
  }

  /**
   * The next message. The stream has ended if it throws.
   *
   * @throws Fault: none came within `ms`, or the stream is lost.
   */
  async next(ms = Infinity): Promise<M> {
    const late = new Error("no message in time");
    const forget = timer(ms, () => {
      this.node.controller.abort(late);
    });
    try {
      const next = await this.#iterator.next();
      if (next.done !== true) {
        return next.value;
      }
    } catch (error) {
      const isLate = this.node.controller.signal.reason === late;
      this.end();
      throw isLate ? Fault.silence("no") : Fault.from(error).as("no");
    } finally {
      forget();
    }
    this.end();
    throw Fault.broken(ENDED).as("no");
  }

  /** Ends it. */
  end(): void {
    this.#unlink();
    this.node.controller.abort(new Error("the stream is not read any more"));
  }
}

const ENDED = "the node ended the stream";
