// One call, from the first attempt to its deadline.
//
// A call goes to one node, the one that served last. If the client knows no leader, a search asks all nodes for a read
// first. So it does ahead of a write that may not be sent twice, if the leader has not answered lately: then a dead node
// costs a read, not a write whose outcome is unknown. All calls of a client wait for one search.
//
// A failed attempt is repeated only where that is safe: always for a read, and for a call with a session number. Any other
// write is repeated only if it was surely not applied.

import { attempt, GivenUp } from "./attempt.js";
import { type Applied, cancelled, SeshatError } from "./errors.js";
import type { Fault } from "./fault.js";
import type { Node, Nodes, Scope } from "./nodes.js";
import { Search, tooLate } from "./search.js";
import { linked, longer, now, sleep, timer } from "./time.js";

/** A key that is read only to find the node that serves reads. It may have any value or none. */
const PROBED_KEY = Uint8Array.of(0);

/**
 * The shortest timeout that says anything about a node that has served other calls lately: a call may have a deadline that
 * no node can keep.
 */
const SILENCE_MS = 100;

/**
 * Whether a failed attempt may be repeated. `read`: always, as it changes nothing. `numbered`: always, as its effect is the
 * same however often it is done. `once`: only if it was surely not applied.
 */
export type Repeat = "read" | "numbered" | "once";

/**
 * Makes a call to the leader until it is answered or its deadline has come.
 *
 * @throws SeshatError
 */
export async function call<T>(scope: Scope, repeat: Repeat, make: (node: Node) => Promise<T>): Promise<T> {
  const { nodes, deadline } = scope;
  const { settings } = nodes;
  let pause = settings.backoff.min;
  let attemptTimeout = settings.attemptTimeout;
  let doubt: Applied = "no";
  let hint: string | undefined;
  const doubtful = (error: SeshatError) => (doubt === "unknown" ? error.inDoubt() : error);
  for (;;) {
    const leader = await findLeader(scope, repeat === "once" ? settings.trust : Infinity, hint).catch(
      (error: unknown) => {
        throw error instanceof SeshatError ? doubtful(error) : cancelled(doubt, error);
      },
    );
    const begun = now();
    const left = deadline - begun;
    const until = repeat === "once" ? deadline : Math.min(deadline, begun + Math.min(attemptTimeout, left / 3));
    const node = nodes
      .node(scope.purpose ?? "calls", leader.address, until)
      .with({ cluster: scope.cluster ?? leader.cluster });
    let fault: Fault;
    try {
      const answer = await attempt(node, scope.signal, make);
      nodes.served(node.address);
      return answer;
    } catch (error) {
      if (error instanceof GivenUp) {
        const sent = error.sent && repeat !== "read";
        throw cancelled(sent ? "unknown" : doubt, error.reason);
      }
      fault = repeat === "read" ? (error as Fault).as("no") : (error as Fault);
    }
    note(nodes, node, fault, until - begun);
    if (fault.applied === "unknown") {
      doubt = "unknown";
    }
    if (!repeats(repeat, fault)) {
      throw doubtful(fault.ended(node.address));
    }
    const end = now() + nodes.jittered(pause);
    if (end >= deadline) {
      throw doubtful(tooLate(scope, new Map([[node.address, fault]])));
    }
    await sleep(end - now(), scope.signal).catch((error: unknown) => {
      throw cancelled(doubt, error);
    });
    hint = fault.leaderAddress;
    pause = longer(settings.backoff, pause);
    attemptTimeout *= fault.silent ? 2 : 1;
  }
}

/** Whether a call is repeated after this fault. */
export function repeats(repeat: Repeat, fault: Fault): boolean {
  if (repeat === "once" && fault.applied === "unknown") {
    return false;
  }
  // A session ends with its cluster.
  if (repeat === "numbered" && fault.successor !== undefined) {
    return false;
  }
  return fault.retry === "later";
}

/**
 * Updates what is known after a fault of `node`, which had `given` milliseconds to answer. How long the attempt took in the
 * end depends on the load of this machine, too.
 */
export function note(nodes: Nodes, node: Node, fault: Fault, given: number): void {
  const wasHeard = nodes.leader(nodes.settings.trust) === node.address;
  if (!(fault.silent && given < SILENCE_MS && wasHeard)) {
    nodes.note(node, fault);
  }
}

/** Asks a node for a read whose value is not needed. */
export function probe(node: Node) {
  return node.kv.get({ key: PROBED_KEY, ...node.named }, node.limited());
}

interface Leader {
  readonly address: string;
  readonly cluster: bigint | undefined;
}

/** The leader, if it has served a call within `age` milliseconds; otherwise a search finds it. */
async function findLeader(scope: Scope, age: number, hint: string | undefined): Promise<Leader> {
  const { nodes, deadline } = scope;
  const known = () => {
    const address = nodes.leader(age);
    return address === undefined ? undefined : { address, cluster: nodes.cluster };
  };
  const leader = known();
  if (leader !== undefined) {
    return leader;
  }
  const release = await turn(scope);
  try {
    const found = known();
    if (found !== undefined) {
      return found;
    }
    const search = new Search(nodes, scope, "calls", probe);
    search.askEndpoints();
    search.also(nodes.connected());
    for (const address of [nodes.leader(), hint]) {
      if (address !== undefined) {
        search.add(address);
      }
    }
    const { node, answer } = await search.run(deadline);
    const cluster = nodes.learn(answer.clusterId);
    nodes.rememberLeader(node.address);
    return { address: node.address, cluster };
  } finally {
    release();
  }
}

/** Waits until no other call searches. */
async function turn(scope: Scope): Promise<() => void> {
  const { controller, unlink } = linked(scope.signal);
  const late = tooLate(scope, new Map());
  const forget = timer(scope.deadline - now(), () => {
    controller.abort(late);
  });
  try {
    return await scope.nodes.searching.acquire(controller.signal);
  } finally {
    forget();
    unlink();
  }
}
