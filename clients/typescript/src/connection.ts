// A connection to one node.
//
// It connects when it is first used, and again when it was lost. It is pinged while calls are under way. The point of
// this layer over the one of Connect is to know for certain when nothing was sent.

import type { ClientHttp2Session, ClientHttp2Stream } from "node:http2";
import { connect as connectSocket, type Socket } from "node:net";
import { type Client, Code, ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcTransport, type GrpcTransportOptions, Http2SessionManager } from "@connectrpc/connect-node";
import { isNotSent, notSent } from "./fault.js";
import { KvService } from "./gen/seshat/kv/v1/kv_service_pb.js";
import { LockService } from "./gen/seshat/lock/v1/lock_service_pb.js";
import { onAbort, reasonOf, timer } from "./time.js";

/** Largest message that a client accepts: the upper bound of `limits.max_grpc_message_bytes` of a node. */
const MAX_MESSAGE_BYTES = 256 << 20;

/** A connection with calls on it is pinged this often, and closed when a ping stays unanswered for so long. */
const KEEPALIVE_MS = 5_000;

/** MiB that Node may use for one connection: its default of 10 breaks a connection with some large values on it. */
const SESSION_MEMORY = 1_024;

/** Bytes of answers that may be in flight: on one call or stream, and on the connection. */
export interface Windows {
  readonly stream: number;
  readonly connection: number;
}

/** A connection to one node. */
export class Connection {
  /** The service for keys, over this connection. */
  readonly kv: Client<typeof KvService>;
  /** The service for locks, over this connection. */
  readonly locks: Client<typeof LockService>;
  readonly #manager: Http2SessionManager;
  readonly #windows: Windows;
  readonly #sized = new WeakSet<ClientHttp2Session>();
  #streams = 0;
  #retired = false;

  constructor(address: string, windows: Windows, connectTimeout: number) {
    const baseUrl = `http://${address}`;
    this.#windows = windows;
    const pings = { pingIntervalMs: KEEPALIVE_MS, pingTimeoutMs: KEEPALIVE_MS };
    this.#manager = new Http2SessionManager(baseUrl, pings, {
      createConnection: () => dial(baseUrl, connectTimeout),
      settings: { initialWindowSize: windows.stream, enablePush: false },
      maxSessionMemory: SESSION_MEMORY,
    });
    const transport = createGrpcTransport({
      baseUrl,
      sessionManager: this.#sessions(),
      readMaxBytes: MAX_MESSAGE_BYTES,
      writeMaxBytes: MAX_MESSAGE_BYTES,
      acceptCompression: [],
    });
    this.kv = createClient(KvService, transport);
    this.locks = createClient(LockService, transport);
  }

  /**
   * Connects, unless it is connected.
   *
   * @throws an error that `isNotSent`, if no connection was made; the reason of `signal` if that was aborted.
   */
  async open(signal: AbortSignal): Promise<void> {
    const state = await untilAborted(this.#manager.connect(), signal);
    if (state === "error") {
      throw unsent(this.#manager.error());
    }
  }

  /** Closes it as soon as no call is on it any more. */
  retire(): void {
    this.#retired = true;
    this.#closeIfDone();
  }

  /** Closes it, and breaks all calls on it. */
  close(): void {
    this.#retired = true;
    this.#manager.abort(CLOSED);
  }

  #closeIfDone(): void {
    if (this.#retired && this.#streams === 0) {
      this.#manager.abort(CLOSED);
    }
  }

  #sessions(): Sessions {
    const manager = this.#manager;
    return {
      authority: manager.authority,
      request: async (...request) => {
        // What fails here has sent nothing.
        const stream = await manager.request(...request).catch((error: unknown) => {
          throw unsent(error);
        });
        this.#opened(stream);
        return stream;
      },
      notifyResponseByteRead: (stream) => {
        manager.notifyResponseByteRead(stream);
      },
    };
  }

  #opened(stream: ClientHttp2Stream): void {
    this.#streams += 1;
    stream.once("close", () => {
      this.#streams -= 1;
      this.#closeIfDone();
    });
    const session = stream.session as ClientHttp2Session | undefined;
    if (session !== undefined && !this.#sized.has(session)) {
      this.#sized.add(session);
      session.setLocalWindowSize(this.#windows.connection);
    }
  }
}

type Sessions = NonNullable<GrpcTransportOptions["sessionManager"]>;

const CLOSED = new ConnectError("the connection was closed", Code.Unavailable);

function dial(baseUrl: string, connectTimeout: number): Socket {
  const { hostname, port } = new URL(baseUrl);
  const host = hostname.replace(/^\[(.*)\]$/, "$1");
  const socket = connectSocket({ host, port: Number(port === "" ? 80 : port), noDelay: true });
  const forget = timer(connectTimeout, () => {
    socket.destroy(new Error("no connection in time"));
  });
  socket.once("connect", forget);
  socket.once("close", forget);
  return socket;
}

function unsent(error: unknown): unknown {
  if (isNotSent(error)) {
    return error;
  }
  const cause = error instanceof ConnectError ? (error.cause ?? error) : error;
  return notSent(cause instanceof Error ? innermost(cause) : String(cause));
}

/** The message of an error, or of the first one in it: several addresses of one name may have failed. */
function innermost(error: Error): string {
  if (error instanceof AggregateError && error.errors[0] instanceof Error) {
    return error.errors[0].message;
  }
  return error instanceof ConnectError ? error.rawMessage : error.message;
}

function untilAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const forget = onAbort(signal, () => {
      reject(reasonOf(signal));
    });
    promise.then(resolve, reject).finally(forget);
  });
}
