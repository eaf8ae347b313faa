// The clusters that the endpoints lead to.

import { attempt } from "./attempt.js";
import { Fault } from "./fault.js";
import type { Nodes } from "./nodes.js";
import { linked, now, timer } from "./time.js";

/** The id of no cluster, as ids are drawn at random: a node that is asked for it names its own instead. */
const NO_CLUSTER = 0n;

/** Longest wait for endpoints that do not answer, in milliseconds. */
const MAX_WAIT_MS = 1_000;

/** Shortest wait for the other endpoints when one has answered. They have as long again as that took. */
const GRACE_MS = 100;

/** The clusters of the endpoints that answer soon. */
export async function clusters(nodes: Nodes, signal: AbortSignal): Promise<Set<bigint>> {
  const begun = now();
  const found = new Set<bigint>();
  const { controller, unlink } = linked(signal);
  const stop = () => {
    controller.abort(new Error("no more answers are waited for"));
  };
  let forget = timer(MAX_WAIT_MS, stop);
  const ask = async (address: string) => {
    const cluster = await clusterOf(nodes, address, controller.signal);
    if (cluster !== undefined) {
      if (found.size === 0) {
        forget();
        forget = timer(Math.min(Math.max(now() - begun, GRACE_MS), MAX_WAIT_MS), stop);
      }
      found.add(cluster);
    }
  };
  await Promise.all(nodes.endpoints.map(ask));
  forget();
  unlink();
  return found;
}

async function clusterOf(nodes: Nodes, address: string, signal: AbortSignal): Promise<bigint | undefined> {
  const node = nodes.node("calls", address, now() + MAX_WAIT_MS);
  try {
    // No key: a node that takes part in no cluster yet refuses that at once.
    await attempt(node, signal, (asked) =>
      asked.kv.get({ key: new Uint8Array(), clusterId: NO_CLUSTER }, asked.limited()),
    );
    return undefined;
  } catch (error) {
    return error instanceof Fault ? error.otherCluster?.clusterId : undefined;
  }
}
