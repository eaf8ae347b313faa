// One attempt of a call, at one node.

import { Fault } from "./fault.js";
import type { Node } from "./nodes.js";
import { linked, now, timer } from "./time.js";

/** The caller does not wait any more. */
export class GivenUp extends Error {
  constructor(
    /** Whether the request may have been sent. */
    readonly sent: boolean,
    readonly reason: unknown,
  ) {
    super("the caller does not wait any more");
  }
}

/**
 * Makes a call to `node`, once. The node that `make` gets ends with the attempt; if `make` opens a stream, its owner ends
 * that by the node's controller.
 *
 * @throws Fault, or GivenUp if `signal` is aborted.
 */
export async function attempt<T>(node: Node, signal: AbortSignal, make: (node: Node) => Promise<T>): Promise<T> {
  const { controller, unlink } = linked(signal);
  const forget = timer(node.deadline - now(), () => {
    controller.abort(LATE);
  });
  let sent = false;
  try {
    await node.connection.open(controller.signal);
    sent = true;
    return await make(node.with({ controller }));
  } catch (error) {
    const late = controller.signal.reason === LATE;
    // Ends a stream that was opened meanwhile.
    controller.abort();
    if (late) {
      throw Fault.silence(sent ? "unknown" : "no");
    }
    throw signal.aborted ? new GivenUp(sent, signal.reason) : Fault.from(error);
  } finally {
    forget();
    unlink();
  }
}

const LATE = new Error("no answer in time");
