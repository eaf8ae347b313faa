// Who holds locks, as the cluster shows it.

import { call } from "./call.js";
import type { Limits, Nodes } from "./nodes.js";
import { type Holder, holder } from "./observe.js";

/** A lock, as the cluster shows it. */
export interface LockInfo {
  readonly name: string;
  /** The claim that holds it. Absent: it is free. */
  readonly holder: Holder | undefined;
  /** Number of claims that wait for it. */
  readonly waiting: bigint;
}

export function inspectLock(nodes: Nodes, name: string, limits: Limits): Promise<LockInfo> {
  return nodes.run(limits, async (scope) => {
    const state = await call(scope, "read", (node) => node.locks.inspect({ name, ...node.named }, node.limited()));
    return { name, holder: state.holder && holder(state.holder), waiting: state.waiting };
  });
}

export function locks(nodes: Nodes, limits: Limits): Promise<LockInfo[]> {
  return nodes.run(limits, async (scope) => {
    const found: LockInfo[] = [];
    for (;;) {
      const after = found.at(-1)?.name ?? "";
      const page = await call(scope, "read", (node) => node.locks.listLocks({ after, ...node.named }, node.limited()));
      for (const lock of page.locks) {
        found.push({ name: lock.name, holder: lock.holder && holder(lock.holder), waiting: lock.waiting });
      }
      // A page that says nothing new has nothing behind it.
      if (!page.more || page.locks.length === 0) {
        return found;
      }
    }
  });
}
