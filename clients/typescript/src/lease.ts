// The lease of a living session: until when its client may rely on it.
//
// The cluster counts the TTL from when it applies a renewal, the client from when it sent it. So the client counts first,
// and it gives up at 90 % of the TTL: before the cluster ends the session, as long as the rates of their clocks differ by
// at most 5 %.

import { type Clock, elapsed, type Moment, moment } from "./clock.js";
import { type Lost, sessionLost } from "./errors.js";

/** Longest sleep before the clocks are read again: timers do not count suspended time. */
const LOOK_MS = 1_000;

/** The lease. Once it is lost, it stays lost. */
export class Lease {
  /** Settles when the lease is lost. */
  readonly lost: Promise<Lost>;
  readonly #controller = new AbortController();
  #why: Lost | undefined;
  #renewed: Moment;
  #tell: (why: Lost) => void = () => undefined;
  #forget: () => void = () => undefined;
  #aged: (() => void)[] = [];

  /** A lease of `ttl` milliseconds that was granted for a request that was sent at `renewed`. */
  constructor(
    readonly ttl: number,
    readonly clock: Clock,
    renewed: Moment,
  ) {
    this.#renewed = renewed;
    this.lost = new Promise((resolve) => {
      this.#tell = resolve;
    });
    this.#look();
  }

  /** Aborted when the lease is lost, with a `SeshatError` of kind `session_lost`. */
  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  now(): Moment {
    return moment(this.clock);
  }

  /** How long it holds after a renewal. */
  get #holds(): number {
    return this.ttl * 0.9;
  }

  /** When it is lost at the latest, unless it is renewed: on the monotonic clock. */
  get end(): number {
    return this.#renewed.monotonic + this.#holds;
  }

  /** Why it is lost, if it is. Reads the clocks. */
  get isLost(): Lost | undefined {
    if (this.#why === undefined && elapsed(this.clock, this.#renewed) >= this.#holds) {
      this.lose("not_renewed");
    }
    return this.#why;
  }

  /** @throws SeshatError if it is lost. */
  check(): void {
    const why = this.isLost;
    if (why !== undefined) {
      throw sessionLost(why);
    }
  }

  /** A renewal that was sent at `sent` was answered. */
  renew(sent: Moment): void {
    if (this.isLost === undefined && sent.monotonic > this.#renewed.monotonic) {
      this.#renewed = sent;
    }
  }

  /** Ends it. */
  lose(why: Lost): void {
    if (this.#why !== undefined) {
      return;
    }
    this.#why = why;
    this.#forget();
    this.#controller.abort(sessionLost(why));
    this.#tell(why);
    this.#wake();
  }

  /** Waits until the last renewal is a third of the TTL old, or the lease is lost. */
  due(): Promise<void> {
    return new Promise((resolve) => {
      this.#aged.push(resolve);
      this.#look();
    });
  }

  /** Reads the clocks, now and again until it is lost. */
  #look(): void {
    this.#forget();
    if (this.isLost !== undefined) {
      this.#wake();
      return;
    }
    const age = elapsed(this.clock, this.#renewed);
    const third = this.ttl / 3;
    if (age >= third) {
      this.#wake();
    }
    const next = this.#aged.length > 0 ? third : this.#holds;
    this.#forget = this.clock.timer(Math.min(Math.max(next - age, 1), LOOK_MS), () => {
      this.#look();
    });
  }

  #wake(): void {
    for (const aged of this.#aged.splice(0)) {
      aged();
    }
  }
}
