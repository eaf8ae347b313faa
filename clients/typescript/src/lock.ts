// Locks that this client holds.

import type { Claim } from "./claim.js";
import type { Lost } from "./errors.js";
import type { Limits } from "./nodes.js";
import type { LivingSession } from "./session.js";
import type { Token } from "./txn.js";

/**
 * A lock that this client holds, until it is released or its session is lost.
 *
 * While {@link isLost} is false, no other claim holds the lock, as long as the rates of the clocks differ by at most 5 %. But
 * a program may be stopped at any moment, also between that question and what it does next, and a message may be on its way
 * for long. So what must never be done by two holders needs the {@link token}:
 *
 * - a write to Seshat: `ifHeld`, `Condition.held`. It takes effect only if the lock is held at that very place in the order
 *   of all writes;
 * - a request to another resource: pass the token, and let the resource refuse one that is lower than the highest that it has
 *   seen.
 *
 * With `await using lock = await client.lock("name")` it is released at the end of the block; otherwise call
 * {@link release} in a `finally`.
 */
export class Lock implements Token {
  /** @internal */
  constructor(
    /** @internal */
    readonly claim: Claim,
    /**
     * The fencing token: the revision at which the claim began to hold the lock. Every later holder has a higher one, also
     * after a loss of all data.
     */
    readonly token: bigint,
  ) {}

  /** The name of the lock. */
  get name(): string {
    return this.claim.name;
  }

  /** The session that holds the lock. */
  get session(): LivingSession {
    return this.claim.session;
  }

  /** Whether the lock is lost: its session is. Reads the clocks. */
  get isLost(): boolean {
    return this.session.isLost;
  }

  /** Settles when the lock is lost, because its session is. */
  get lost(): Promise<Lost> {
    return this.session.lost;
  }

  /** Aborted when the lock is lost, because its session is: pass it to what needs the lock. */
  get signal(): AbortSignal {
    return this.session.signal;
  }

  /**
   * Releases the lock. The next claim holds it when this resolves. A second call waits for the same.
   *
   * @throws SeshatError: the lock was lost before, or the release was not acknowledged in time; then it goes on in the
   * background.
   */
  release(limits: Limits = {}): Promise<void> {
    return this.claim.release(limits);
  }

  /** Releases the lock, if it is not lost, and waits until that is done or goes on in the background. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.isLost) {
      await this.release().catch(() => undefined);
    }
  }
}

/** The leadership of this client, until it resigns or its session is lost: the {@link Lock} of the election. */
export class Leadership extends Lock {
  /** @internal */
  constructor({ claim, token }: Lock) {
    super(claim, token);
  }

  /** Ends the leadership: see {@link release}. The next candidate leads when this resolves. */
  resign(limits: Limits = {}): Promise<void> {
    return this.release(limits);
  }
}
