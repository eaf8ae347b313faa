import type { Clock, Moment } from "../src/clock.js";

/** A clock that the test moves. */
export class FakeClock implements Clock {
  #monotonic = 0;
  #extra = 0;
  #timers: { at: number; then: () => void }[] = [];

  monotonic(): number {
    return this.#monotonic;
  }

  suspended(): number {
    return this.#monotonic + this.#extra;
  }

  moment(): Moment {
    return { monotonic: this.monotonic(), suspended: this.suspended() };
  }

  timer(ms: number, then: () => void): () => void {
    const timer = { at: this.#monotonic + ms, then };
    this.#timers.push(timer);
    return () => {
      this.#timers = this.#timers.filter((it) => it !== timer);
    };
  }

  get timers(): number {
    return this.#timers.length;
  }

  /** Moves both clocks, and runs the timers that get due. */
  advance(ms: number): void {
    const end = this.#monotonic + ms;
    for (;;) {
      const [next] = this.#timers.filter(({ at }) => at <= end).sort((a, b) => a.at - b.at);
      if (next === undefined) {
        break;
      }
      this.#timers = this.#timers.filter((it) => it !== next);
      this.#monotonic = Math.max(this.#monotonic, next.at);
      next.then();
    }
    this.#monotonic = end;
  }

  /** Moves the clock that counts suspended time alone. */
  suspend(ms: number): void {
    this.#extra += ms;
  }
}
