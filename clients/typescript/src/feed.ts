// Streams for the program: what comes without an end, one after the other.

import { cancelled } from "./errors.js";
import type { Nodes } from "./nodes.js";

/**
 * News without an end, for `for await`. It begins when the first news are asked for. It ends with the loop (`break`), with
 * {@link close}, with its signal, and with the client.
 */
export class Feed<T> implements AsyncIterableIterator<T> {
  readonly #controller: AbortController;
  readonly #end: () => void;
  readonly #news: () => Promise<T>;
  #last: Promise<unknown> = Promise.resolve();
  #isClosed = false;

  /** @internal `news` waits for the next news; after an error it is not called again. */
  constructor(nodes: Nodes, signal: AbortSignal | undefined, news: (signal: AbortSignal) => Promise<T>) {
    const { controller, end } = nodes.begin(signal);
    this.#controller = controller;
    this.#end = end;
    this.#news = () => news(controller.signal);
  }

  /**
   * The next news.
   *
   * @throws SeshatError: no node will ever serve this, or its signal was aborted. It has ended.
   */
  next(): Promise<IteratorResult<T, undefined>> {
    const next = this.#last.then(() => this.#next());
    this.#last = next.catch(() => undefined);
    return next;
  }

  async #next(): Promise<IteratorResult<T, undefined>> {
    if (this.#isClosed) {
      return { done: true, value: undefined };
    }
    try {
      return { done: false, value: await this.#news() };
    } catch (error) {
      // `close` may have been called meanwhile.
      if (this.#isClosed as boolean) {
        return { done: true, value: undefined };
      }
      const { signal } = this.#controller;
      const reason: unknown = signal.aborted ? cancelled("no", signal.reason) : error;
      this.close();
      throw reason;
    }
  }

  /** Ends it. A caller that waits gets `done`. */
  close(): void {
    this.#isClosed = true;
    this.#controller.abort(new Error("closed"));
    this.#end();
  }

  return(): Promise<IteratorResult<T, undefined>> {
    this.close();
    return Promise.resolve({ done: true, value: undefined });
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.close();
    return Promise.resolve();
  }
}
