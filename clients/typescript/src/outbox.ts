// What a stream of requests is read from.

/** A queue that one reader reads until its end. Its writers bound what is in it. */
export class Outbox<T> implements AsyncIterableIterator<T> {
  readonly #queue: T[] = [];
  #hasEnded = false;
  #reading: ((result: IteratorResult<T, undefined>) => void) | undefined;

  push(item: T): void {
    if (this.#reading === undefined) {
      this.#queue.push(item);
    } else {
      this.#settle({ done: false, value: item });
    }
  }

  end(): void {
    this.#hasEnded = true;
    this.#settle({ done: true, value: undefined });
  }

  #settle(result: IteratorResult<T, undefined>): void {
    this.#reading?.(result);
    this.#reading = undefined;
  }

  next(): Promise<IteratorResult<T, undefined>> {
    const [item] = this.#queue.splice(0, 1);
    if (item !== undefined) {
      return Promise.resolve({ done: false, value: item });
    }
    if (this.#hasEnded) {
      return Promise.resolve({ done: true, value: undefined });
    }
    return new Promise((resolve) => {
      this.#reading = resolve;
    });
  }

  return(): Promise<IteratorResult<T, undefined>> {
    this.end();
    return Promise.resolve({ done: true, value: undefined });
  }

  /** The stream has failed: its reader tells why. */
  throw(): Promise<IteratorResult<T, undefined>> {
    return this.return();
  }

  [Symbol.asyncIterator](): this {
    return this;
  }
}
