// The stream of a pipeline: the batches in flight on it, and their fate when it breaks.
//
// Batches stand in one queue, in the order in which they were sent, until they are answered; the node answers in that order. If
// the pipeline has a session, another stream is opened when one breaks, and the batches in the queue are sent again.

import { type Answer, type Batch, changes, reply } from "./batch.js";
import { call } from "./call.js";
import { SeshatError } from "./errors.js";
import { Fault } from "./fault.js";
import type { PipelineRequest, PipelineResponse } from "./gen/seshat/kv/v1/kv_service_pb.js";
import type { Limits, Node, Nodes } from "./nodes.js";
import { Outbox } from "./outbox.js";
import { longer, now, onAbort, sleep, timer } from "./time.js";
import type { InSession } from "./writes.js";

/** A stream to one node. */
interface Connection {
  readonly node: Node;
  readonly requests: Outbox<PipelineRequest>;
  readonly responses: AsyncIterator<PipelineResponse>;
  /** The response that is waited for. */
  next: Promise<IteratorResult<PipelineResponse>>;
}

/** The stream of a pipeline. */
export class PipelineStream {
  readonly #inFlight: Batch[] = [];
  /** Where requests go, while there is a stream. */
  #requests: Outbox<PipelineRequest> | undefined;
  #lastId = 0n;
  /** The cluster of the node that it was opened to. */
  #cluster: bigint | undefined;
  #isClosed = false;
  /** Why no batch can be submitted any more. */
  #over: SeshatError | undefined;
  #attemptTimeout: number;
  /** When the last answer came. */
  #heard = now();
  #wake: () => void = () => undefined;
  readonly #ends: { controller: AbortController; end: () => void };

  private constructor(
    readonly nodes: Nodes,
    readonly inSession: InSession | undefined,
  ) {
    this.#attemptTimeout = nodes.settings.attemptTimeout;
    this.#ends = nodes.begin(undefined);
  }

  /** Opens a stream to the leader. */
  static async open(nodes: Nodes, inSession: InSession | undefined, limits: Limits): Promise<PipelineStream> {
    const stream = new PipelineStream(nodes, inSession);
    try {
      void stream.#run(await stream.#connect(limits));
    } catch (error) {
      stream.#ends.end();
      throw error;
    }
    return stream;
  }

  /** @throws SeshatError: the pipeline has ended, and the batch was not sent. */
  submit(batch: Batch): void {
    if (this.#over !== undefined) {
      throw this.#over;
    }
    this.#send(batch);
    this.#wake();
  }

  /** Takes no further batches. Those in flight are still answered. */
  close(): void {
    this.#isClosed = true;
    this.#over ??= new SeshatError("invalid", "no", "the pipeline was closed");
    this.#requests?.end();
    this.#requests = undefined;
    this.#wake();
  }

  /** Whether it goes on at another node: then every write has a number. */
  get #resumes(): boolean {
    return this.inSession !== undefined;
  }

  #send(batch: Batch): void {
    this.#lastId += 1n;
    batch.id = this.#lastId;
    if (this.#requests !== undefined) {
      batch.inDoubt ||= batch.sent !== undefined;
      batch.sent = now();
      this.#requests.push(batch.request(this.#cluster));
    }
    this.#inFlight.push(batch);
  }

  async #connect(limits: Limits): Promise<Connection> {
    // Opening a stream changes nothing, so it may be repeated.
    const connection = await this.nodes.run(limits, (scope) =>
      call({ ...scope, cluster: this.inSession?.cluster }, "read", open),
    );
    this.#cluster = connection.node.cluster;
    this.#requests = connection.requests;
    if (this.#isClosed) {
      connection.requests.end();
    }
    return connection;
  }

  async #run(first: Connection): Promise<void> {
    const { backoff } = this.nodes.settings;
    let connection: Connection | undefined = first;
    let pause = backoff.min;
    while (connection !== undefined) {
      const { node } = connection;
      const heard = this.#heard;
      const fault = await this.#read(connection);
      connection.requests.end();
      node.controller.abort(new Error("the stream is over"));
      if (fault === undefined) {
        break;
      }
      this.nodes.note(node, fault);
      this.#requests = undefined;
      if (!this.#resumes || this.#ends.controller.signal.aborted) {
        this.#end(node, fault);
        break;
      }
      pause = this.#heard > heard ? backoff.min : pause;
      await sleep(this.nodes.jittered(pause));
      pause = longer(backoff, pause);
      connection = await this.#resume(node);
    }
    this.#ends.end();
  }

  /** Reads until the stream ends. Returns why; absent: every batch was answered, and no batch will follow. */
  async #read(connection: Connection): Promise<Fault | undefined> {
    for (;;) {
      const oldest = this.#inFlight[0];
      if (oldest === undefined && this.#isClosed) {
        return undefined;
      }
      const left = oldest === undefined ? Infinity : this.#limit(oldest) - now();
      if (left <= 0) {
        this.#attemptTimeout *= 2;
        return Fault.silence();
      }
      try {
        const next = await this.#event(connection, left);
        if (next === undefined) {
          continue;
        }
        if (next.done === true) {
          return Fault.broken("the node ended the stream");
        }
        this.#deliver(connection.node, next.value);
        connection.next = pending(connection.responses);
        this.#heard = now();
        this.#attemptTimeout = this.nodes.settings.attemptTimeout;
      } catch (error) {
        return Fault.from(error);
      }
    }
  }

  /** The next response. Absent: a batch was submitted, the stream was closed, or `ms` have passed. */
  async #event(connection: Connection, ms: number): Promise<IteratorResult<PipelineResponse> | undefined> {
    const { signal } = this.#ends.controller;
    let forget: () => void = () => undefined;
    let unlink: () => void = () => undefined;
    const other = new Promise<undefined>((resolve, reject) => {
      this.#wake = () => {
        resolve(undefined);
      };
      forget = timer(ms, this.#wake);
      unlink = onAbort(signal, () => {
        reject(Fault.broken("the client was closed"));
      });
    });
    try {
      return await Promise.race([connection.next, other]);
    } finally {
      forget();
      unlink();
    }
  }

  /** When the oldest batch in flight will have waited too long. */
  #limit({ sent, deadline }: Batch): number {
    if (!this.#resumes || sent === undefined) {
      return deadline;
    }
    const heard = Math.max(sent, this.#heard);
    return heard + Math.min(this.#attemptTimeout, Math.max(deadline - heard, 0) / 3);
  }

  /**
   * Gives the oldest batch its answers.
   *
   * @throws Fault: the answer does not fit, or the batch has to be sent again.
   */
  #deliver(node: Node, { id, results }: PipelineResponse): void {
    const [batch] = this.#inFlight;
    if (batch?.id !== id || batch.commands.length !== results.length) {
      throw Fault.broken("an answer to nothing that was asked");
    }
    const replies = results.map((result, index) => reply(at(batch.commands, index), result));
    const faults = replies.filter((it) => it instanceof Fault);
    // For `overloaded` the caller has to slow down; the stream goes on.
    const left = faults.find((fault) => fault.retry === "later" && fault.endsLeadership);
    // If another cluster answers, there is no leader to which the writes may be sent again.
    const isOver = left !== undefined && (!this.#resumes || left.otherCluster !== undefined);
    if (left !== undefined && !isOver && now() < batch.deadline) {
      if (replies.every((it) => it instanceof Fault && it.applied === "no")) {
        batch.sent = undefined;
      }
      throw left;
    }
    this.#inFlight.shift();
    if (left !== undefined && this.#over === undefined) {
      // Batches in flight will still be answered; no batch may follow.
      this.nodes.note(node, left);
      this.#over = left.as("no").ended(node.address);
      this.close();
    }
    batch.answer(
      replies.map((it, index): Answer => {
        if (!(it instanceof Fault)) {
          return it;
        }
        const error = it.ended(node.address);
        const doubtful = batch.inDoubt && changes(at(batch.commands, index));
        return { type: "error", error: doubtful ? error.inDoubt() : error };
      }),
    );
  }

  /** Ends the pipeline: the stream will not be opened again. */
  #end({ address }: Node, fault: Fault): void {
    this.#over ??= fault.as("no").ended(address);
    for (const batch of this.#inFlight.splice(0)) {
      batch.fail(address, fault);
    }
  }

  /** Opens another stream, and sends the batches in flight again. Absent: there are none, and the pipeline is closed. */
  async #resume(node: Node): Promise<Connection | undefined> {
    for (;;) {
      this.#failLate(node);
      const oldest = this.#inFlight[0];
      if (this.#ends.controller.signal.aborted) {
        this.#end(node, Fault.broken("the client was closed"));
        return undefined;
      }
      if (oldest === undefined) {
        if (this.#isClosed) {
          return undefined;
        }
        await new Promise<void>((resolve) => {
          const unlink = onAbort(this.#ends.controller.signal, resolve);
          this.#wake = () => {
            unlink();
            resolve();
          };
        });
        continue;
      }
      try {
        const limits = { timeout: oldest.deadline - now(), signal: this.#ends.controller.signal };
        const connection = await this.#connect(limits);
        for (const batch of this.#inFlight.splice(0)) {
          this.#send(batch);
        }
        if (this.#isClosed) {
          this.#requests?.end();
          this.#requests = undefined;
        }
        return connection;
      } catch {
        // The oldest batch has reached its deadline now, unless the search ended early because no node will ever serve.
        await sleep(Math.min(oldest.deadline - now(), this.#attemptTimeout));
      }
    }
  }

  /** Fails the batches whose deadline has passed. */
  #failLate({ address }: Node): void {
    for (;;) {
      const [oldest] = this.#inFlight;
      if (oldest === undefined || oldest.deadline > now()) {
        return;
      }
      this.#inFlight.shift();
      oldest.fail(address, Fault.silence());
    }
  }
}

/** Opens a stream to a node, and waits until the node has accepted it. */
async function open(node: Node): Promise<Connection> {
  const requests = new Outbox<PipelineRequest>();
  let accept: () => void = () => undefined;
  const accepted = new Promise<void>((resolve) => {
    accept = resolve;
  });
  const responses = node.kv.pipeline(requests, { ...node.openEnded(), onHeader: accept })[Symbol.asyncIterator]();
  const next = pending(responses);
  const first = await Promise.race([accepted, next]);
  if (first?.done === true) {
    throw Fault.broken("the node ended the stream");
  }
  return { node, requests, responses, next };
}

/** The next response, whose failure may be looked at later. */
function pending<T>(responses: AsyncIterator<T>): Promise<IteratorResult<T>> {
  const next = responses.next();
  next.catch(() => undefined);
  return next;
}

function at<T>(list: readonly T[], index: number): T {
  return list[index] as T;
}
