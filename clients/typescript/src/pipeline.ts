// Pipelines: streams that keep many commands in flight.

import { type Answer, Batch, changes, type Command } from "./batch.js";
import { invalid, SeshatError } from "./errors.js";
import type { Limits, Nodes } from "./nodes.js";
import { MAX_OUTSTANDING } from "./numbers.js";
import { PipelineStream } from "./pipeline_stream.js";
import { Semaphore } from "./semaphore.js";
import { linked, now, timer } from "./time.js";
import { type InSession, nextNumbers } from "./writes.js";

/** Most batches in flight: a node accepts no more on one stream. */
const MAX_WINDOW = 1_024;

/** Most commands in a batch: a node accepts no more. */
const MAX_COMMANDS = 4_096;

/** The options of a pipeline. */
export interface PipelineOptions {
  /** Batches that may be in flight: 1 to 1024. Default: 64. */
  window?: number;
}

/** A batch that was submitted. */
export interface Submitted {
  /** One for each command, in order. It never rejects; the batch is carried out even if no caller waits for it. */
  readonly answers: Promise<readonly Answer[]>;
}

/**
 * A stream of batches of commands. The commands take effect in the order of submission, and a read sees every write before it. A
 * command that fails has no effect on later commands.
 *
 * Without a session, the pipeline ends with its connection and with the leadership of its node. Every write in flight then has
 * an unknown outcome; open another pipeline to continue. In a session, the pipeline finds the new leader and sends the
 * unanswered batches again, in order and until the deadline of each. So a batch that a node refused may take effect after later
 * ones. If that matters, wait for the answer before you submit more.
 */
export class Pipeline {
  readonly #nodes: Nodes;
  readonly #inSession: InSession | undefined;
  readonly #stream: PipelineStream;
  readonly #window: Semaphore;
  readonly #timeout: number;

  private constructor(
    nodes: Nodes,
    inSession: InSession | undefined,
    stream: PipelineStream,
    window: number,
    timeout: number,
  ) {
    this.#nodes = nodes;
    this.#inSession = inSession;
    this.#stream = stream;
    this.#window = new Semaphore(window);
    this.#timeout = timeout;
  }

  /** @internal */
  static async open(
    nodes: Nodes,
    inSession: InSession | undefined,
    { window = 64, ...limits }: PipelineOptions & Limits,
  ): Promise<Pipeline> {
    const most = Math.min(Math.max(Math.floor(window), 1), MAX_WINDOW);
    const stream = await PipelineStream.open(nodes, inSession, limits);
    return new Pipeline(nodes, inSession, stream, most, limits.timeout ?? nodes.settings.timeout);
  }

  /**
   * Puts a batch on the stream, as soon as the window has room for it. The answers come later.
   *
   * @throws SeshatError: the batch was not sent. The pipeline has ended, its session is lost, the window stayed full until the
   * deadline, or the batch has no command, more than 4096, or more than 1024 writes in a session.
   */
  async submit(batch: Iterable<Command>, limits: Limits = {}): Promise<Submitted> {
    const commands = [...batch];
    if (commands.length === 0 || commands.length > MAX_COMMANDS) {
      throw invalid(`a batch has 1 to ${String(MAX_COMMANDS)} commands`);
    }
    const writes = commands.filter(changes).length;
    if (this.#inSession !== undefined && writes > MAX_OUTSTANDING) {
      throw invalid(`a session has at most ${String(MAX_OUTSTANDING)} writes in flight`);
    }
    const { timeout = this.#timeout } = limits;
    return this.#nodes.run({ ...limits, timeout }, async (scope) => {
      const { controller, unlink } = linked(scope.signal);
      const forget = timer(scope.deadline - now(), () => {
        controller.abort(new SeshatError("deadline", "no", "the pipeline is full"));
      });
      let release: (() => void) | undefined;
      try {
        release = await this.#window.acquire(controller.signal);
        const numbers =
          this.#inSession === undefined
            ? []
            : await nextNumbers(
                this.#inSession.numbers,
                writes,
                { ...scope, signal: controller.signal },
                "the pipeline is full",
              );
        return { answers: this.#send(commands, numbers, scope.deadline, release) };
      } catch (error) {
        release?.();
        throw error;
      } finally {
        forget();
        unlink();
      }
    });
  }

  #send(
    commands: readonly Command[],
    numbers: ConstructorParameters<typeof Batch>[1],
    deadline: number,
    release: () => void,
  ): Promise<readonly Answer[]> {
    let settle: (answers: Answer[]) => void = () => undefined;
    const answers = new Promise<readonly Answer[]>((resolve) => {
      settle = resolve;
    });
    const batch = new Batch(commands, numbers, deadline, (given) => {
      release();
      settle(given);
    });
    try {
      this.#stream.submit(batch);
    } catch (error) {
      for (const number of numbers) {
        number.end();
      }
      throw error;
    }
    return answers;
  }

  /** Ends the pipeline. Batches in flight are still answered. */
  close(): void {
    this.#stream.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.close();
    return Promise.resolve();
  }
}
