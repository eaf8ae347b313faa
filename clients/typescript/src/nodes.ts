// The nodes that a client knows, its connections to them, the leader, and the cluster.
//
// The first leader that is found decides which cluster a client belongs to: from then on its requests name that cluster,
// and nodes of any other refuse them. The client follows another cluster only if that says that it was recovered from the
// known one, and only if the client was not told to keep to the known one.

import type { CallOptions, Client } from "@connectrpc/connect";
import { Connection, type Windows } from "./connection.js";
import { cancelled, invalid } from "./errors.js";
import type { Fault } from "./fault.js";
import type { KvService } from "./gen/seshat/kv/v1/kv_service_pb.js";
import type { LockService } from "./gen/seshat/lock/v1/lock_service_pb.js";
import { Semaphore } from "./semaphore.js";
import type { Settings } from "./settings.js";
import { jittered, linked, now } from "./time.js";

/** The use of a connection. What is read slowly fills its connection, and must not delay calls. */
export type Purpose = "calls" | "streams" | "watches";

/** Bytes in flight. Watches have less each, because a client may have many. */
const WINDOWS: Record<Purpose, Windows> = {
  calls: { stream: 4 << 20, connection: 16 << 20 },
  streams: { stream: 1 << 20, connection: 16 << 20 },
  watches: { stream: 64 << 10, connection: 128 << 20 },
};

/** Nodes that are known besides the endpoints because other nodes named them. */
const MAX_LEARNED = 64;

/** The longest `grpc-timeout` in milliseconds: 8 digits. */
const LONGEST_TIMEOUT = 99_999_999;

/** A node and a connection to it, for one attempt. */
export class Node {
  constructor(
    readonly address: string,
    readonly purpose: Purpose,
    readonly connection: Connection,
    /** When the attempt ends, on the monotonic clock. */
    readonly deadline: number,
    /** The cluster that its requests name. */
    readonly cluster: bigint | undefined,
    /** Ends the attempt, or the stream that it has opened. */
    readonly controller = new AbortController(),
  ) {}

  get kv(): Client<typeof KvService> {
    return this.connection.kv;
  }

  get locks(): Client<typeof LockService> {
    return this.connection.locks;
  }

  /** The same node with these changes. */
  with(changes: { deadline?: number; cluster?: bigint | undefined; controller?: AbortController }): Node {
    const cluster = "cluster" in changes ? changes.cluster : this.cluster;
    const { deadline = this.deadline, controller = this.controller } = changes;
    return new Node(this.address, this.purpose, this.connection, deadline, cluster, controller);
  }

  /** The field of a request that names the cluster. */
  get named(): { clusterId?: bigint } {
    return this.cluster === undefined ? {} : { clusterId: this.cluster };
  }

  /** Options of a call that tells the node the time that is left for it, or this `share` of it. */
  limited(share = 1): CallOptions {
    const left = Math.max(1, Math.floor((this.deadline - now()) * share));
    const headers = { "grpc-timeout": `${String(Math.min(left, LONGEST_TIMEOUT))}m` };
    return { headers, signal: this.controller.signal };
  }

  /** Options of a call without a timeout. */
  openEnded(): CallOptions {
    return { signal: this.controller.signal };
  }
}

/** What one call goes by. */
export interface Scope {
  readonly nodes: Nodes;
  /** The timeout of the call, for messages. */
  readonly timeout: number;
  /** When the call ends, on the monotonic clock. */
  readonly deadline: number;
  /** Ends the call earlier. */
  readonly signal: AbortSignal;
  /** The cluster that it names, if that differs from the one of the client. */
  readonly cluster?: bigint | undefined;
  /** The connections that it uses. Default: `calls`. */
  readonly purpose?: Purpose;
}

/** The timeout of a call and what ends it, as its caller gives them. */
export interface Limits {
  /** The deadline of the whole call, in milliseconds from now. Default: the timeout of the client. */
  timeout?: number | undefined;
  /** Ends the call: it throws a `SeshatError` of kind `cancelled`. A write that was sent may have been applied. */
  signal?: AbortSignal | undefined;
}

/** The state that all calls of a client share. */
export class Nodes {
  /** Held during a search for the leader: all other calls wait for its result. */
  readonly searching = new Semaphore(1);
  /** The places of claims whose state is asked for. */
  readonly awaits: Semaphore;
  /** Called when the client is closed. */
  readonly closing = new Set<() => Promise<void>>();
  #leader: { readonly address: string; heard: number } | undefined;
  #cluster: bigint | undefined;
  readonly #connections = new Map<string, Connection>();
  readonly #running = new Set<AbortController>();
  #closed = false;

  constructor(
    readonly endpoints: readonly string[],
    readonly settings: Settings,
  ) {
    this.#cluster = settings.cluster;
    this.awaits = new Semaphore(settings.awaits);
  }

  /** The cluster that requests name. */
  get cluster(): bigint | undefined {
    return this.#cluster;
  }

  get isClosed(): boolean {
    return this.#closed;
  }

  /**
   * Runs a call, which the end of the client ends.
   *
   * @throws SeshatError if the client was closed, or the timeout is no number.
   */
  async run<T>(limits: Limits, call: (scope: Scope) => Promise<T>): Promise<T> {
    const { timeout = this.settings.timeout, signal } = limits;
    if (Number.isNaN(timeout)) {
      throw invalid("the timeout is no number");
    }
    if (signal?.aborted === true) {
      throw cancelled("no", signal.reason);
    }
    const { controller, end } = this.begin(signal);
    try {
      return await call({ nodes: this, timeout, deadline: now() + timeout, signal: controller.signal });
    } finally {
      end();
    }
  }

  /**
   * A controller of what begins now. It is aborted with `signal`, and with the client, until `end` is called.
   *
   * @throws SeshatError if the client was closed.
   */
  begin(signal: AbortSignal | undefined): { controller: AbortController; end: () => void } {
    if (this.#closed) {
      throw invalid("the client was closed");
    }
    const { controller, unlink } = linked(signal);
    this.#running.add(controller);
    return {
      controller,
      end: () => {
        this.#running.delete(controller);
        unlink();
      },
    };
  }

  /** Closes the client: first what it has opened, then all connections. */
  async close(): Promise<void> {
    if (!this.#closed) {
      await Promise.allSettled([...this.closing].map((close) => close()));
      this.#closed = true;
    }
    for (const controller of this.#running) {
      controller.abort(cancelled("no", new Error("the client was closed")));
    }
    for (const connection of this.#connections.values()) {
      connection.close();
    }
    this.#connections.clear();
  }

  /** The node that served last, if that was within `age` milliseconds. */
  leader(age = Infinity): string | undefined {
    return this.#leader !== undefined && now() - this.#leader.heard < age ? this.#leader.address : undefined;
  }

  /** The node at `address` has just served a call, as only the leader does. */
  served(address: string): void {
    if (this.#leader?.address === address) {
      this.#leader.heard = now();
    }
  }

  rememberLeader(address: string): void {
    this.#leader = { address, heard: now() };
  }

  /** The nodes that calls went to, endpoints or not. */
  connected(): string[] {
    const keys = [...this.#connections.keys()].filter((key) => key.startsWith("calls "));
    return keys.map((key) => key.slice("calls ".length));
  }

  /** A node of the cluster `named` has answered. Returns the cluster that requests name. */
  learn(named: bigint | undefined): bigint | undefined {
    this.#cluster ??= named;
    return this.#cluster;
  }

  /** Updates the state after a fault of `node`. */
  note(node: Node, fault: Fault): void {
    const { successor } = fault;
    if (successor !== undefined && node.cluster === this.#cluster && this.settings.follows) {
      const former = this.#cluster;
      this.#cluster = successor;
      if (former !== undefined) {
        // What the program throws is not for the call at hand.
        queueMicrotask(() => {
          this.settings.onRecovery(former, successor);
        });
      }
    }
    if (fault.endsLeadership && this.#leader?.address === node.address) {
      this.#leader = undefined;
    }
    if (fault.silent) {
      this.dialAnew(node);
    }
  }

  /** Replaces the connection to `node`. Calls that still wait on the old one are not disturbed. */
  dialAnew(node: Node): void {
    const key = `${node.purpose} ${node.address}`;
    // Another call may have replaced it in the meantime.
    if (this.#connections.get(key) === node.connection) {
      this.#connections.delete(key);
    }
    node.connection.retire();
  }

  /** The node at `address`, over a connection for `purpose`, for an attempt that ends at `deadline`. */
  node(purpose: Purpose, address: string, deadline: number): Node {
    const key = `${purpose} ${address}`;
    let connection = this.#connections.get(key);
    if (connection === undefined) {
      this.#makeRoom();
      connection = new Connection(address, WINDOWS[purpose], this.settings.connectTimeout);
      this.#connections.set(key, connection);
    }
    return new Node(address, purpose, connection, deadline, this.#cluster);
  }

  #makeRoom(): void {
    const most = 3 * (this.endpoints.length + MAX_LEARNED);
    if (this.#connections.size < most) {
      return;
    }
    for (const [key, connection] of this.#connections) {
      if (!this.endpoints.some((address) => key.endsWith(` ${address}`))) {
        this.#connections.delete(key);
        connection.retire();
      }
    }
  }

  jittered(pause: number): number {
    return jittered(pause);
  }
}
