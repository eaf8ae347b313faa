package io.github.seshatkv.client;

import io.github.seshatkv.client.Node.Purpose;
import io.github.seshatkv.proto.lock.v1.LockServiceGrpc;
import io.github.seshatkv.proto.lock.v1.ObserveRequest;
import io.github.seshatkv.proto.lock.v1.ObserveResponse;
import java.util.Optional;
import java.util.OptionalLong;
import java.util.concurrent.CompletableFuture;

/**
 * The holders of a lock, one after the other, without an end: see {@link Client#observe}.
 *
 * <p>It asks the leader, and goes on at the next one when that is lost. No holder equals the one
 * before, and none is older; of changes that follow one another quickly, or while there is no
 * leader, only the last one is told. What was told may be over: who acts on it passes the token.
 *
 * <p>One thread at a time takes the holders. To close it ends the call.
 */
public final class Holders implements AutoCloseable {
  private final Shared shared;
  private final long timeout;
  private final String name;
  private final Feed<Optional<Holder>> feed;

  /** The messages of the present leader. The rest belongs to the loop, too. */
  private Stream stream;

  private Optional<Holder> told;
  private long pause;

  private record Stream(
      Node node, Rpc<ObserveRequest, ObserveResponse> messages, ObserveResponse first) {}

  Holders(Shared shared, long timeout, String name) {
    this.shared = shared;
    this.timeout = timeout;
    this.name = name;
    this.feed = new Feed<>(shared, this::produce);
  }

  /**
   * Waits for the next holder; empty: the lock is free. An outage of the cluster ends no wait.
   *
   * @throws SeshatException no node will ever serve this, or the thread was interrupted, or this
   *     was closed
   */
  public Optional<Holder> next() {
    return feed.next();
  }

  /** See {@link #next}. To cancel the future loses no holder. */
  public CompletableFuture<Optional<Holder>> nextAsync() {
    return feed.nextAsync();
  }

  private CompletableFuture<Optional<Holder>> produce() {
    CompletableFuture<Optional<Holder>> next = new CompletableFuture<>();
    pause = shared.options().backoff().first();
    news(next);
    return next;
  }

  private void news(CompletableFuture<Optional<Holder>> next) {
    if (next.isDone()) {
      return;
    }
    if (stream == null) {
      begin(next);
    } else {
      receive(next, stream);
    }
  }

  /** Asks the leader. */
  private void begin(CompletableFuture<Optional<Holder>> next) {
    Call.Scope scope = new Call.Scope(timeout, OptionalLong.empty(), Purpose.STREAMS);
    CompletableFuture<Stream> begun =
        Call.make(shared, scope, Loop.after(timeout), Repeat.READ, this::open);
    Futures.cancelWith(next, begun);
    begun.whenComplete(
        (opened, error) -> {
          if (error == null) {
            stream = opened;
            tell(next, opened.first);
          } else if (Futures.error(error).isOutage()) {
            shared.loop().execute(() -> news(next));
          } else {
            next.completeExceptionally(Futures.error(error));
          }
        });
  }

  private CompletableFuture<Stream> open(Node node) {
    ObserveRequest.Builder request = ObserveRequest.newBuilder().setName(name);
    node.cluster().ifPresent(request::setClusterId);
    Rpc<ObserveRequest, ObserveResponse> messages =
        Rpc.streaming(shared.loop(), node, LockServiceGrpc.getObserveMethod(), request.build(), 0);
    return Futures.map(
        shared.loop().within(node.deadline(), messages.next()),
        first -> new Stream(node, messages, first.orElseThrow(() -> CallError.broken(ENDED))));
  }

  private void receive(CompletableFuture<Optional<Holder>> next, Stream from) {
    CompletableFuture<Optional<ObserveResponse>> message = from.messages.next();
    Futures.cancelWith(next, message);
    message.whenComplete(
        (answer, error) -> {
          if (next.isDone()) {
            return;
          }
          if (error == null && answer.isPresent()) {
            tell(next, answer.get());
            return;
          }
          stream = null;
          CallError fault = error == null ? CallError.broken(ENDED) : CallError.of(error);
          shared.nodes().note(from.node, fault.notApplied());
          if (fault.retry() != Retry.LATER) {
            next.completeExceptionally(fault.notApplied().ended(from.node.address()));
            return;
          }
          shared.loop().at(Loop.after(Backoff.jittered(pause, shared.random())), () -> news(next));
          pause = shared.options().backoff().longer(pause);
        });
  }

  private void tell(CompletableFuture<Optional<Holder>> next, ObserveResponse message) {
    Optional<Holder> holder =
        message.hasHolder() ? Optional.of(Holder.of(message.getHolder())) : Optional.empty();
    if (holder.equals(told)) {
      shared.loop().execute(() -> news(next));
    } else {
      told = holder;
      next.complete(holder);
    }
  }

  /** Ends it. A call that waits for the next holder fails. */
  @Override
  public void close() {
    feed.close(
        () -> {
          if (stream != null) {
            stream.messages.cancel();
            stream = null;
          }
        });
  }

  private static final String ENDED = "the node ended the stream";
}
