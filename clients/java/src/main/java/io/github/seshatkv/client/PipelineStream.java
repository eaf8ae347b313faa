package io.github.seshatkv.client;

import io.github.seshatkv.client.Node.Purpose;
import io.github.seshatkv.proto.kv.v1.KvServiceGrpc;
import io.github.seshatkv.proto.kv.v1.PipelineRequest;
import io.github.seshatkv.proto.kv.v1.PipelineResponse;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Deque;
import java.util.List;
import java.util.Optional;
import java.util.OptionalLong;
import java.util.Queue;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.Future;

/**
 * The stream of a pipeline: the batches in flight on it, and their fate when it breaks. Belongs to
 * the loop.
 *
 * <p>Batches stand in one queue, in the order in which they were sent, until they are answered; the
 * node answers in that order. In a session another stream is opened when one breaks, and the
 * batches in the queue are sent again.
 */
final class PipelineStream {
  /** Batches in flight. A node accepts 1024 on one stream. */
  private static final int WINDOW = 64;

  private record Submission(Batch batch, CompletableFuture<Void> accepted) {}

  private record Connection(Node node, Rpc<PipelineRequest, PipelineResponse> rpc) {}

  private final Shared shared;
  private final long timeout;
  private final Optional<SessionState> session;
  private final Queue<Submission> submissions = new ArrayDeque<>();
  private final Deque<Batch> inFlight = new ArrayDeque<>();

  /** The present stream; null: there is none as yet, or any more. */
  private Connection connection;

  private String lastAddress = "";
  private CompletableFuture<Long> numbering;
  private Future<?> limit;
  private boolean resuming;
  private boolean closed;

  /** Why no batch can be submitted any more. */
  private SeshatException over;

  private long lastId;
  private long heard;
  private long pause;
  private long attemptTimeout;

  PipelineStream(Shared shared, long timeout, Optional<SessionState> session) {
    this.shared = shared;
    this.timeout = timeout;
    this.session = session;
    this.pause = shared.options().backoff().first();
    this.attemptTimeout = shared.options().attemptTimeout();
  }

  /** Opens a stream to the leader. That changes nothing, so it is repeated like a read. */
  CompletableFuture<Void> open(long deadline) {
    OptionalLong cluster = session.map(SessionState::cluster).orElse(OptionalLong.empty());
    Call.Scope scope = new Call.Scope(timeout, cluster, Purpose.CALLS);
    return Futures.map(
        Call.make(shared, scope, deadline, Repeat.READ, this::connect),
        opened -> {
          connection = opened;
          lastAddress = opened.node.address();
          heard = Loop.now();
          read(opened);
          return null;
        });
  }

  private CompletableFuture<Connection> connect(Node node) {
    Rpc<PipelineRequest, PipelineResponse> rpc =
        Rpc.duplex(shared.loop(), node, KvServiceGrpc.getPipelineMethod());
    return Futures.map(
        shared.loop().within(node.deadline(), rpc.opened()), opened -> new Connection(node, rpc));
  }

  /** Sends a batch as soon as there is room. */
  CompletableFuture<Void> submit(Batch batch) {
    Submission submission = new Submission(batch, new CompletableFuture<>());
    submissions.add(submission);
    SeshatException full =
        SeshatException.of(SeshatException.Kind.DEADLINE, Applied.NO, "the pipeline is full");
    Future<?> timer =
        shared.loop().at(batch.deadline, () -> submission.accepted.completeExceptionally(full));
    submission.accepted.whenComplete(
        (done, error) -> {
          timer.cancel(false);
          if (error != null && submissions.peek() == submission && numbering != null) {
            numbering.cancel(true);
          }
        });
    advance();
    return submission.accepted;
  }

  /** Sends the submissions for which there is room, in order. */
  private void advance() {
    while (!submissions.isEmpty() && numbering == null) {
      Submission first = submissions.peek();
      if (first.accepted.isDone()) {
        submissions.remove();
        continue;
      }
      if (over != null || closed) {
        submissions.remove();
        SeshatException error =
            over == null ? SeshatException.invalid("the pipeline is closed") : over;
        first.accepted.completeExceptionally(error);
        continue;
      }
      if (inFlight.size() >= WINDOW) {
        return;
      }
      if (session.isPresent() && first.batch.writes() > 0) {
        number(first, session.get());
      } else {
        accept(first);
      }
    }
  }

  private void number(Submission first, SessionState in) {
    try {
      in.holds();
    } catch (SeshatException lost) {
      submissions.remove();
      first.accepted.completeExceptionally(lost);
      return;
    }
    CompletableFuture<Long> next =
        in.next(shared.loop(), first.batch.writes(), first.batch.deadline);
    numbering = next;
    next.whenComplete(
        (number, error) -> {
          numbering = null;
          if (error != null) {
            submissions.remove();
            first.accepted.completeExceptionally(Futures.error(error));
          } else {
            first.batch.number(number);
            accept(first);
          }
          shared.loop().execute(this::advance);
        });
  }

  private void accept(Submission first) {
    submissions.remove();
    Batch batch = first.batch;
    batch.answers.whenComplete((answers, error) -> batch.release());
    if (first.accepted.complete(null)) {
      send(batch);
    } else {
      batch.answers.cancel(false);
    }
  }

  private void send(Batch batch) {
    batch.id = ++lastId;
    inFlight.add(batch);
    if (connection != null) {
      batch.inDoubt |= batch.sent.isPresent();
      batch.sent = OptionalLong.of(Loop.now());
      connection.rpc.send(batch.request(connection.node.cluster()));
      watch();
    } else if (!resuming) {
      resume();
    }
  }

  private void read(Connection from) {
    from.rpc
        .next()
        .whenComplete(
            (response, error) -> {
              if (connection != from) {
                return;
              }
              if (error != null) {
                broken(from, CallError.of(error), false);
              } else if (response.isEmpty()) {
                broken(from, CallError.broken("the node ended the stream"), false);
              } else {
                answered(from, response.get());
              }
            });
  }

  private void answered(Connection from, PipelineResponse response) {
    Optional<CallError> fault = deliver(from, response);
    if (fault.isPresent()) {
      broken(from, fault.get(), false);
      return;
    }
    heard = Loop.now();
    pause = shared.options().backoff().first();
    attemptTimeout = shared.options().attemptTimeout();
    watch();
    shared.loop().execute(() -> read(from));
    advance();
  }

  /** Looks, when the oldest batch in flight has waited too long, whether it still waits. */
  private void watch() {
    if (limit != null) {
      limit.cancel(false);
    }
    Batch oldest = inFlight.peek();
    if (oldest == null) {
      return;
    }
    long until = oldest.deadline;
    if (session.isPresent() && oldest.sent.isPresent()) {
      long since = Math.max(oldest.sent.getAsLong(), heard);
      long share = Math.max(oldest.deadline - since, 0) / 3;
      until = since + Math.min(attemptTimeout, share);
    }
    Connection present = connection;
    limit =
        shared
            .loop()
            .at(
                until,
                () -> {
                  if (connection == present && present != null && inFlight.peek() == oldest) {
                    broken(present, CallError.silence(), true);
                  }
                });
  }

  /** Gives the oldest batch its answers. Returns why it, or the stream, has to be tried again. */
  private Optional<CallError> deliver(Connection from, PipelineResponse response) {
    Batch batch = inFlight.peek();
    if (batch == null
        || batch.id != response.getId()
        || batch.commands.size() != response.getResultsCount()) {
      return Optional.of(CallError.broken("an answer to nothing that was asked"));
    }
    List<Reply> replies = new ArrayList<>();
    CallError left = null;
    boolean allRefused = true;
    for (int i = 0; i < batch.commands.size(); i++) {
      Command command = batch.commands.get(i);
      boolean writes = Wire.isWrite(command);
      try {
        replies.add(Batch.reply(command, response.getResults(i)));
        allRefused = false;
      } catch (CallError said) {
        CallError fault = writes ? said : said.notApplied();
        allRefused &= fault.applied() == Applied.NO;
        boolean moves = fault.retry() == Retry.LATER && fault.endsLeadership();
        left = left == null && moves ? fault : left;
        SeshatException error = fault.ended(from.node.address());
        replies.add(new Reply.Failed(error.inDoubt(batch.inDoubt && writes)));
      }
    }
    // If another cluster answers, there is no leader to which the writes may be sent again.
    boolean resumes = session.isPresent() && left != null && !left.is(Reason.OTHER_CLUSTER);
    if (resumes && !Loop.passed(batch.deadline)) {
      if (allRefused) {
        batch.sent = OptionalLong.empty();
      }
      return Optional.of(left);
    }
    inFlight.remove();
    if (left != null && over == null) {
      // Batches in flight will still be answered; no batch may follow.
      shared.nodes().note(from.node, left);
      over = left.notApplied().ended(from.node.address());
      from.rpc.halfClose();
    }
    batch.answers.complete(List.copyOf(replies));
    return Optional.empty();
  }

  private void broken(Connection from, CallError fault, boolean silent) {
    connection = null;
    from.rpc.cancel();
    shared.nodes().note(from.node, fault);
    if (silent) {
      attemptTimeout *= 2;
    }
    if (session.isEmpty() || over != null) {
      over = over == null ? fault.notApplied().ended(from.node.address()) : over;
      while (!inFlight.isEmpty()) {
        fail(inFlight.remove(), fault);
      }
      advance();
    } else if (!(closed && inFlight.isEmpty())) {
      resuming = true;
      shared.loop().at(Loop.after(Backoff.jittered(pause, shared.random())), this::resume);
      pause = shared.options().backoff().longer(pause);
    }
  }

  private void fail(Batch batch, CallError fault) {
    batch.answers.complete(batch.failed(lastAddress, fault));
  }

  /** Opens another stream, and sends the batches in flight again. */
  private void resume() {
    resuming = true;
    while (!inFlight.isEmpty() && Loop.passed(inFlight.peek().deadline)) {
      fail(inFlight.remove(), CallError.silence());
    }
    if (inFlight.isEmpty()) {
      // The next batch opens it.
      resuming = false;
      advance();
      return;
    }
    long deadline = inFlight.peek().deadline;
    open(deadline)
        .whenComplete(
            (opened, error) -> {
              if (error != null) {
                // The oldest batch has reached its deadline, unless no node will ever serve.
                long next = Loop.earlier(deadline, Loop.after(shared.options().attemptTimeout()));
                shared.loop().at(next, this::resume);
                return;
              }
              resuming = false;
              List<Batch> again = List.copyOf(inFlight);
              inFlight.clear();
              again.forEach(this::send);
              if (closed) {
                connection.rpc.halfClose();
              }
              advance();
            });
  }

  /** No batch follows. Those in flight are still answered. */
  void close() {
    closed = true;
    if (connection != null) {
      connection.rpc.halfClose();
    }
    advance();
  }
}
