// A search: asks many nodes the same harmless question, and takes the first good answer.
//
// A node may be dead, cut off or paused, so the search waits for no single one. It asks the nodes in a random order with
// short pauses between them, without waiting for earlier answers. A node that fails makes the next one's turn come at once;
// so does a node that names the leader. A node that refuses or fails is asked again, after random pauses that grow. Only
// the deadline ends a search, except for a request that no node will ever serve.
//
// An address may lead to several nodes, through a load balancer or a name with several addresses. So an address that
// refuses twice is dialled anew each time, and every address of its name is asked too.

import { lookup } from "node:dns/promises";
import { isIP } from "node:net";
import { attempt, GivenUp } from "./attempt.js";
import { cancelled, SeshatError } from "./errors.js";
import { Fault } from "./fault.js";
import type { Node, Nodes, Purpose, Scope } from "./nodes.js";
import { linked, longer, now, onAbort, sleep, timer } from "./time.js";

/** Pause between the first question to one node and the first to the next. */
const STAGGER_MS = 20;

/** Most nodes of a search, including those that other nodes name. */
const MAX_NODES = 128;

/** Number of refusals from which an address is dialled anew. */
const DIAL_ANEW = 2;

/** How often a search dials its only endpoint before the pauses grow: a load balancer leads to another node each time. */
const QUICK_DIALS = 16;

/** How often a search asks at an address where another cluster answers: one name may lead to both clusters. */
const MAX_FOREIGN = 4;

/** A node that is asked until it answers. */
interface Candidate {
  readonly address: string;
  /** When to ask it. */
  due: number;
  /** Makes its first turn come at once. */
  readonly hurry: AbortController;
  pause: number;
  attemptTimeout: number;
  refusals: number;
  foreign: number;
  wasAsked: boolean;
  lastWord: Fault | undefined;
}

/** One question, asked of all known nodes. */
export class Search<T> {
  readonly #candidates = new Map<string, Candidate>();
  readonly #stop: AbortController;
  readonly #unlink: () => void;
  /** Questions that may still be answered. */
  #open = 0;
  #found: (found: { node: Node; answer: T }) => void = () => undefined;
  #failed: (error: unknown) => void = () => undefined;
  readonly #outcome: Promise<{ node: Node; answer: T }>;
  #deadline = Infinity;

  constructor(
    readonly nodes: Nodes,
    readonly scope: Scope,
    readonly purpose: Purpose,
    readonly ask: (node: Node) => Promise<T>,
  ) {
    const { controller, unlink } = linked(scope.signal);
    this.#stop = controller;
    this.#unlink = unlink;
    this.#outcome = new Promise((resolve, reject) => {
      this.#found = resolve;
      this.#failed = reject;
    });
  }

  /** Asks all endpoints. The one at `last` has its turn when the others have had their time, or have failed. */
  askEndpoints(last?: string): void {
    const { endpoints, settings } = this.nodes;
    let due = now();
    for (const address of shuffled(endpoints)) {
      const isLast = address === last && endpoints.length > 1;
      if (this.#insert(address, due + (isLast ? settings.attemptTimeout : 0))) {
        due += this.nodes.jittered(STAGGER_MS);
      }
    }
  }

  /** Asks these addresses too, after all others. */
  also(addresses: readonly string[]): void {
    let due = now() + STAGGER_MS * this.#candidates.size;
    for (const address of addresses) {
      if (this.#insert(address, due)) {
        due += this.nodes.jittered(STAGGER_MS);
      }
    }
  }

  /** Asks the node at `address` now, unless it was asked already. */
  add(address: string): void {
    this.#insert(address, now());
    this.#candidates.get(address)?.hurry.abort();
  }

  /**
   * The first answer, and the node that gave it.
   *
   * @throws SeshatError: the deadline has passed, the request is at fault, or no node is left to ask.
   */
  async run(deadline: number): Promise<{ node: Node; answer: T }> {
    this.#deadline = deadline;
    const { signal } = this.#stop;
    const unlink = onAbort(signal, () => {
      this.#failed(cancelled("no", signal.reason));
    });
    const forget = timer(deadline - now(), () => {
      this.#failed(tooLate(this.scope, this.#lastWords()));
    });
    for (const candidate of [...this.#candidates.values()]) {
      void this.#pursue(candidate);
    }
    try {
      return await this.#outcome;
    } finally {
      unlink();
      forget();
      this.#unlink();
      this.#stop.abort(new Error("the search is over"));
    }
  }

  /** Adds a node. Returns whether it is new. */
  #insert(address: string, due: number): boolean {
    if (this.#candidates.has(address) || this.#candidates.size >= MAX_NODES) {
      return false;
    }
    const { backoff, attemptTimeout } = this.nodes.settings;
    const candidate: Candidate = {
      address,
      due,
      hurry: new AbortController(),
      pause: backoff.min,
      attemptTimeout,
      refusals: 0,
      foreign: 0,
      wasAsked: false,
      lastWord: undefined,
    };
    this.#candidates.set(address, candidate);
    if (this.#deadline !== Infinity) {
      void this.#pursue(candidate);
    }
    return true;
  }

  /** Asks a node until it answers, or asking it makes no sense any more. */
  async #pursue(candidate: Candidate): Promise<void> {
    this.#open += 1;
    try {
      do {
        await this.#turn(candidate);
        candidate.wasAsked = true;
      } while (!(await this.#question(candidate)));
    } catch (error) {
      // After the search has ended: then this has no effect.
      this.#failed(error);
    }
    this.#open -= 1;
    if (this.#open === 0) {
      this.#failed(this.#noNodeServes());
    }
  }

  async #turn(candidate: Candidate): Promise<void> {
    const { controller, unlink } = linked(this.#stop.signal, candidate.wasAsked ? undefined : candidate.hurry.signal);
    try {
      await sleep(candidate.due - now(), controller.signal);
    } catch (error) {
      if (this.#stop.signal.aborted) {
        throw error;
      }
    } finally {
      unlink();
    }
  }

  /** Asks once. Returns whether that was the last time. */
  async #question(candidate: Candidate): Promise<boolean> {
    const until = Math.min(this.#deadline, now() + candidate.attemptTimeout);
    const node = this.nodes.node(this.purpose, candidate.address, until);
    let fault: Fault;
    try {
      // The answer may be a stream, which its owner ends.
      const found = await attempt(node, this.#stop.signal, async (asked) => {
        const answer = await this.ask(asked);
        return { node: asked, answer };
      });
      if (this.#stop.signal.aborted) {
        found.node.controller.abort();
      }
      this.#found(found);
      return true;
    } catch (error) {
      if (error instanceof GivenUp) {
        throw error;
      }
      fault = error as Fault;
    }
    if (this.#stop.signal.aborted) {
      return true;
    }
    this.#note(candidate, node, fault);
    if (fault.retry === "nowhere") {
      throw fault.as("no").ended(candidate.address);
    }
    this.#hurry(fault);
    return fault.retry === "elsewhere" || candidate.foreign >= MAX_FOREIGN;
  }

  #note(candidate: Candidate, node: Node, fault: Fault): void {
    this.nodes.note(node, fault);
    candidate.lastWord = fault;
    candidate.foreign += fault.otherCluster === undefined ? 0 : 1;
    if (fault.sendsElsewhere) {
      candidate.refusals += 1;
      if (candidate.refusals >= DIAL_ANEW) {
        this.nodes.dialAnew(node);
      }
      if (candidate.refusals === DIAL_ANEW) {
        void this.#resolve(candidate.address);
      }
    }
    candidate.due = now() + this.nodes.jittered(candidate.pause);
    const isAlone = this.nodes.endpoints.length === 1;
    const quick = isAlone && fault.leaderAddress !== undefined && candidate.refusals <= QUICK_DIALS;
    if (!quick) {
      candidate.pause = longer(this.nodes.settings.backoff, candidate.pause);
    }
    if (fault.silent) {
      candidate.attemptTimeout *= 2;
    }
  }

  /** Makes the turn of the leader that `fault` names come at once, or else that of the next node. */
  #hurry(fault: Fault): void {
    const leader = fault.leaderAddress;
    if (leader !== undefined) {
      this.add(leader);
      return;
    }
    const waiting = [...this.#candidates.values()].find((it) => !it.wasAsked && !it.hurry.signal.aborted);
    waiting?.hurry.abort();
  }

  /** Asks all addresses of the name in `address`. */
  async #resolve(address: string): Promise<void> {
    const [, name = "", port = ""] = /^(.*):(\d+)$/.exec(address) ?? [];
    if (isIP(name) !== 0 || name.startsWith("[")) {
      return;
    }
    const found = await lookup(name, { all: true }).catch(() => []);
    if (found.length > 1 && !this.#stop.signal.aborted) {
      this.also(found.map((it) => (it.family === 6 ? `[${it.address}]:${port}` : `${it.address}:${port}`)));
    }
  }

  /** The last fault of each node. A node without one did not answer in time. */
  #lastWords(): Map<string, Fault> {
    const candidates = [...this.#candidates.values()];
    return new Map(candidates.map((it) => [it.address, it.lastWord ?? Fault.silence()]));
  }

  #noNodeServes(): SeshatError {
    const faults = this.#lastWords();
    const [first] = faults;
    const refusal = first?.[1].refusal(first[0]);
    return new SeshatError("unserved", "no", `no node serves the request: ${byReason(faults)}`, { refusal });
  }
}

/**
 * The error of a call whose deadline passed during the search, so that nothing was sent that may have an effect. `faults`
 * has the last fault of every node.
 */
export function tooLate(scope: Scope, faults: ReadonlyMap<string, Fault>): SeshatError {
  const within = `within ${String(Math.round(scope.timeout))} ms: ${byReason(faults)}`;
  const answered = [...faults].find(([, fault]) => fault.answered);
  if (answered === undefined) {
    return new SeshatError("unreachable", "no", `the cluster cannot be reached ${within}`);
  }
  const [address, fault] = answered;
  return new SeshatError("deadline", "no", `the cluster did not serve the request ${within}`, {
    refusal: fault.refusal(address),
  });
}

/** The faults as text, with the nodes of equal faults together. */
function byReason(faults: ReadonlyMap<string, Fault>): string {
  const nodes = new Map<string, string[]>();
  for (const [address, { message }] of faults) {
    nodes.set(message, [...(nodes.get(message) ?? []), address]);
  }
  return [...nodes].map(([message, addresses]) => `${addresses.join(", ")}: ${message}`).join("; ");
}

function shuffled<T>(list: readonly T[]): T[] {
  return list
    .map((item) => ({ item, at: Math.random() }))
    .sort((a, b) => a.at - b.at)
    .map(({ item }) => item);
}
