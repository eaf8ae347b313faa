// Observers of a lock: who holds it, now and after every change.

import { call } from "./call.js";
import { SeshatError } from "./errors.js";
import type { Fault } from "./fault.js";
import { Feed } from "./feed.js";
import type { Holder as HolderMessage, ObserveResponse } from "./gen/seshat/lock/v1/lock_service_pb.js";
import type { Nodes } from "./nodes.js";
import { Stream } from "./stream.js";
import { longer, sleep } from "./time.js";

/** The claim that holds a lock. */
export interface Holder {
  /** The id of its session. */
  readonly clientId: bigint;
  /** Its number in the session. */
  readonly claim: bigint;
  /** The fencing token: later holders have higher ones. */
  readonly token: bigint;
  /** What the holder tells of itself. */
  readonly value: Uint8Array;
}

/** @internal */
export function holder({ clientId, claim, token, value }: HolderMessage): Holder {
  return { clientId, claim, token, value };
}

/**
 * The holders of a lock; `undefined`: the lock is free. No one equals the one before, and none is older; of changes that follow
 * one another quickly, or while there is no leader, only the last one is told. What was told may be over: a client that acts
 * on it passes the token.
 */
export class Holders extends Feed<Holder | undefined> {
  /** @internal */
  constructor(nodes: Nodes, name: string, signal: AbortSignal | undefined) {
    const observer = new Observer(nodes, name);
    super(nodes, signal, (ends) => observer.news(ends));
  }
}

/** Observes at one leader after the other. */
class Observer {
  #stream: Stream<ObserveResponse> | undefined;
  /** What was told last. */
  #told: { readonly holder: Holder | undefined } | undefined;

  constructor(
    readonly nodes: Nodes,
    readonly name: string,
  ) {}

  /** The next holder that the caller does not know. */
  async news(signal: AbortSignal): Promise<Holder | undefined> {
    const { backoff } = this.nodes.settings;
    let pause = backoff.min;
    for (;;) {
      let message: ObserveResponse | undefined;
      if (this.#stream === undefined) {
        message = await this.#begin(signal);
      } else {
        message = await this.#receive(this.#stream, signal);
        if (message === undefined) {
          await sleep(this.nodes.jittered(pause), signal);
          pause = longer(backoff, pause);
        }
      }
      if (message === undefined) {
        continue;
      }
      const next = message.holder && holder(message.holder);
      if (this.#told === undefined || !same(this.#told.holder, next)) {
        this.#told = { holder: next };
        return next;
      }
    }
  }

  /** Asks the leader. Absent: there is none as yet. */
  async #begin(signal: AbortSignal): Promise<ObserveResponse | undefined> {
    try {
      const { stream, first } = await this.nodes.run({ signal }, (scope) =>
        call({ ...scope, purpose: "streams" }, "read", (node) =>
          Stream.open(node, node.locks.observe({ name: this.name, ...node.named }, node.openEnded())),
        ),
      );
      this.#stream = stream.endWith(signal);
      return first;
    } catch (error) {
      if (error instanceof SeshatError && error.isOutage) {
        return undefined;
      }
      throw error;
    }
  }

  /** The next message of a leader. Absent: it is lost. */
  async #receive(stream: Stream<ObserveResponse>, signal: AbortSignal): Promise<ObserveResponse | undefined> {
    try {
      return await stream.next();
    } catch (error) {
      const fault = error as Fault;
      this.#stream = undefined;
      signal.throwIfAborted();
      this.nodes.note(stream.node, fault);
      if (fault.retry !== "later") {
        throw fault.ended(stream.node.address);
      }
      return undefined;
    }
  }
}

function same(a: Holder | undefined, b: Holder | undefined): boolean {
  return a?.token === b?.token && a?.clientId === b?.clientId && a?.claim === b?.claim;
}
