// Permits within this process: first come, first served.

import { onAbort, reasonOf } from "./time.js";

/** A number of permits. */
export class Semaphore {
  #free: number;
  readonly #waiting: (() => void)[] = [];

  constructor(permits: number) {
    this.#free = permits;
  }

  /**
   * Waits for a permit. Returns what gives it back.
   *
   * @throws the reason of `signal`, if that is aborted while it waits.
   */
  async acquire(signal: AbortSignal): Promise<() => void> {
    if (this.#free > 0) {
      this.#free -= 1;
    } else {
      await this.#turn(signal);
    }
    let given = false;
    return () => {
      if (!given) {
        given = true;
        this.#next();
      }
    };
  }

  #turn(signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const enter = () => {
        forget();
        resolve();
      };
      this.#waiting.push(enter);
      const forget = onAbort(signal, () => {
        this.#waiting.splice(this.#waiting.indexOf(enter), 1);
        reject(reasonOf(signal));
      });
    });
  }

  /** Hands a permit over, or frees it. */
  #next(): void {
    const enter = this.#waiting.shift();
    if (enter === undefined) {
      this.#free += 1;
    } else {
      enter();
    }
  }
}
