package io.github.seshatkv.client;

import java.util.List;
import java.util.Optional;
import java.util.concurrent.CompletableFuture;

/**
 * A stream of batches of commands. They take effect in the order of submission, and a read sees
 * every write before it. A command that fails has no effect on later ones.
 *
 * <p>Without a session, the pipeline ends with its connection and with the leadership of its node;
 * every write in flight then has an unknown outcome. In a session it finds the new leader and sends
 * the batches without an answer again, in order and until the deadline of each; a write that was
 * applied is not applied again. So a batch that was refused may take effect after later ones. If
 * that matters, wait for the answer before you submit more.
 */
public final class Pipeline implements AutoCloseable {
  /** Most commands in a batch: a node accepts no more. */
  private static final int MAX_COMMANDS = 4096;

  private final Shared shared;
  private final long timeout;
  private final Optional<SessionState> session;
  private final PipelineStream stream;

  private Pipeline(
      Shared shared, long timeout, Optional<SessionState> session, PipelineStream stream) {
    this.shared = shared;
    this.timeout = timeout;
    this.session = session;
    this.stream = stream;
  }

  static CompletableFuture<Pipeline> open(
      Shared shared, long timeout, Optional<SessionState> session) {
    session.ifPresent(SessionState::holds);
    PipelineStream stream = new PipelineStream(shared, timeout, session);
    return Futures.map(
        stream.open(Loop.after(timeout)), opened -> new Pipeline(shared, timeout, session, stream));
  }

  /**
   * Puts a batch on the stream, as soon as fewer than 64 are in flight. The answers come later: one
   * for each command, in order. The batch is carried out also if they are not waited for.
   *
   * @throws SeshatException the batch was not sent: the pipeline has ended, its session is lost,
   *     there was no room until the timeout, or the batch has no command, or more than 4096, or
   *     more than 1024 writes in a session
   */
  public CompletableFuture<List<Reply>> submit(List<? extends Command> batch) {
    List<Command> commands = List.copyOf(batch);
    if (commands.isEmpty() || commands.size() > MAX_COMMANDS) {
      throw SeshatException.invalid("a batch has 1 to " + MAX_COMMANDS + " commands");
    }
    Batch submitted = new Batch(commands, Loop.after(timeout), session.map(SessionState::numbers));
    if (session.isPresent() && submitted.writes() > Numbers.MAX_OUTSTANDING) {
      throw SeshatException.invalid("a session has at most 1024 writes in flight");
    }
    shared.await(false, () -> stream.submit(submitted));
    return shared.start(submitted.answers::copy);
  }

  /** See {@link #submit(List)}. */
  public CompletableFuture<List<Reply>> submit(Command... batch) {
    return submit(List.of(batch));
  }

  /** Ends the pipeline. Batches in flight are still answered. */
  @Override
  public void close() {
    shared.loop().execute(stream::close);
  }
}
