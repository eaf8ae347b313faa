// Claims: what a session does to hold a lock, and to give it back.
//
// A claim has a number of its session. Its Acquire is repeated under that number until it is answered, and its Release
// uses the number up, so a copy of the Acquire that arrives later claims nothing. A caller that gives up on the way may have
// a claim nevertheless; so it is released then, too.

import { call } from "./call.js";
import { cancelled, SeshatError, sessionLost } from "./errors.js";
import { Fault } from "./fault.js";
import type { AcquireResponse, AwaitResponse } from "./gen/seshat/lock/v1/lock_service_pb.js";
import type { Limits, Node, Scope } from "./nodes.js";
import type { LivingSession } from "./session.js";
import { duration, longer, sleep } from "./time.js";
import { nextNumber } from "./writes.js";

/** What is claimed. */
export interface Asked {
  readonly name: string;
  readonly value: Uint8Array;
  /** In milliseconds. Absent: the claim waits as long as its session lives. */
  readonly maxWait: number | undefined;
}

/** A claim that was made, or may have been. */
export class Claim {
  #sequence: bigint | undefined;
  /** Whether it may still be there. */
  #isOpen = false;
  #released: Promise<void> | undefined;

  constructor(
    readonly session: LivingSession,
    /** Whether its session is used for nothing else, and ends with it. */
    readonly isAlone: boolean,
    readonly asked: Asked,
  ) {}

  get name(): string {
    return this.asked.name;
  }

  /**
   * Claims the lock, and waits until the claim holds it or has ended. Returns the token; absent: it has not got it.
   *
   * @throws SeshatError: the claim is given up, and released.
   */
  async make(limits: Limits): Promise<bigint | undefined> {
    let token: bigint | undefined;
    try {
      token = await this.session.nodes.run(limits, (scope) => this.#hold(scope, limits));
      this.session.lease.check();
    } catch (error) {
      const lost = this.session.lease.isLost;
      this.#abandon();
      throw lost === undefined ? error : sessionLost(lost);
    }
    if (token !== undefined) {
      return token;
    }
    if (this.asked.maxWait === undefined) {
      // Only the end of its session ends such a claim.
      this.session.lease.lose("ended");
      throw sessionLost("ended");
    }
    this.#abandon();
    return undefined;
  }

  /** Releases the claim. If that fails, it is released in the background. */
  release(limits: Limits): Promise<void> {
    this.#released ??= this.#release(limits);
    return this.#released;
  }

  async #release(limits: Limits): Promise<void> {
    if (this.isAlone) {
      await this.session.close(limits);
      return;
    }
    try {
      await this.#sendRelease(limits);
      this.#isOpen = false;
    } catch (error) {
      this.#abandon();
      throw error;
    }
  }

  async #hold(scope: Scope, limits: Limits): Promise<bigint | undefined> {
    const { numbers, cluster } = this.session.inSession;
    const number = await nextNumber(numbers, scope);
    this.#sequence = number.sequence;
    this.#isOpen = true;
    let answer: AcquireResponse["result"];
    try {
      answer = await this.#acquire({ ...scope, cluster });
    } catch (error) {
      this.#isOpen = !(error instanceof SeshatError && error.applied === "no");
      throw error;
    } finally {
      // The claim goes on, and further writes of the session need the place of its number.
      number.end();
    }
    const token = answer.case === "waiting" ? await this.#granted(limits) : heldToken(answer);
    this.#isOpen = token !== undefined;
    return token;
  }

  async #acquire(scope: Scope): Promise<AcquireResponse["result"]> {
    const { name, value, maxWait } = this.asked;
    const wait = maxWait === undefined ? {} : { maxWait: duration(maxWait) };
    return call(scope, "numbered", async (node) => {
      const request = { name, value, ...wait, session: this.#stamp(), ...node.named };
      return known((await node.locks.acquire(request, node.limited())).result);
    });
  }

  /** Waits until the claim holds the lock or has ended. An outage is no reason to give up: the claim waits at the cluster. */
  async #granted({ signal }: Limits): Promise<bigint | undefined> {
    for (;;) {
      try {
        const state = await this.#ask(signal);
        if (state.case !== "waiting") {
          return heldToken(state);
        }
      } catch (error) {
        if (!(error instanceof SeshatError && error.isOutage)) {
          throw error;
        }
      }
    }
  }

  /** The state of the claim, which is asked for when its turn has come. */
  async #ask(signal: AbortSignal | undefined): Promise<AwaitResponse["result"]> {
    const { nodes, inSession } = this.session;
    const turn = nodes.run({ signal }, (scope) => nodes.awaits.acquire(scope.signal));
    const give = await turn.catch((error: unknown) => {
      throw cancelled("no", error);
    });
    try {
      return await nodes.run({ signal }, (scope) => {
        // Waiting calls have a connection of their own, where they delay no renewal.
        const waiting: Scope = { ...scope, cluster: inSession.cluster, purpose: "streams" };
        return call(waiting, "numbered", (node) => this.#state(node));
      });
    } finally {
      give();
    }
  }

  async #state(node: Node): Promise<AwaitResponse["result"]> {
    const request = { name: this.name, clientId: this.session.id, claim: this.#number(), ...node.named };
    // Shorter than the wait for the answer: those of many claims come at once, and are read one by one.
    return known((await node.locks.await(request, node.limited(0.75))).result);
  }

  async #sendRelease(limits: Limits): Promise<void> {
    const { nodes, inSession, lease } = this.session;
    lease.check();
    await nodes.run(limits, (scope) =>
      call({ ...scope, cluster: inSession.cluster }, "numbered", (node) => {
        const request = { name: this.name, session: this.#stamp(), ...node.named };
        return node.locks.release(request, node.limited());
      }),
    );
  }

  /** Ends what may be there, in the background. */
  #abandon(): void {
    if (this.session.isLost) {
      return;
    }
    if (this.isAlone) {
      this.session.close().catch(() => undefined);
    } else if (this.#isOpen) {
      void this.#releaseAtLast();
    }
  }

  /** Releases the claim, however long that takes, unless the session ends with it. */
  async #releaseAtLast(): Promise<void> {
    const { nodes, lease } = this.session;
    const { backoff } = nodes.settings;
    let pause = backoff.min;
    while (lease.isLost === undefined) {
      try {
        await this.#sendRelease({ signal: lease.signal });
        this.#isOpen = false;
        return;
      } catch (error) {
        if (!(error instanceof SeshatError && error.isOutage)) {
          return;
        }
      }
      await sleep(nodes.jittered(pause), lease.signal).catch(() => undefined);
      pause = longer(backoff, pause);
    }
  }

  #stamp() {
    return this.session.inSession.numbers.stamp(this.#number());
  }

  #number(): bigint {
    return this.#sequence ?? 0n;
  }
}

function heldToken(answer: AcquireResponse["result"]): bigint | undefined {
  return answer.case === "held" ? answer.value.token : undefined;
}

/** The state in an answer. */
function known<T extends { case: string | undefined }>(result: T): T {
  if (result.case === undefined) {
    throw Fault.broken("the node answered with a state that this version does not know");
  }
  return result;
}
