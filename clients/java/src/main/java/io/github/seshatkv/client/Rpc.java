package io.github.seshatkv.client;

import io.grpc.Attributes;
import io.grpc.CallOptions;
import io.grpc.ClientCall;
import io.grpc.ClientStreamTracer;
import io.grpc.Metadata;
import io.grpc.MethodDescriptor;
import io.grpc.Status;
import java.util.ArrayDeque;
import java.util.Optional;
import java.util.Queue;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;

/**
 * One request to one node, and its answers, which are taken one by one. Belongs to the loop.
 *
 * @param <Q> the request
 * @param <A> the answer
 */
final class Rpc<Q, A> extends ClientCall.Listener<A> {
  private static final Metadata.Key<String> TIMEOUT =
      Metadata.Key.of("grpc-timeout", Metadata.ASCII_STRING_MARSHALLER);

  private final ClientCall<Q, A> call;
  private final Queue<A> answers = new ArrayDeque<>();
  private CompletableFuture<Optional<A>> waiting;
  private final CompletableFuture<Void> opened = new CompletableFuture<>();
  private CallError fault;
  private boolean over;

  /** Whether the request may have left this machine. */
  private volatile boolean sent;

  private Rpc(
      Node node, MethodDescriptor<Q, A> method, boolean timed, Loop loop, Metadata headers) {
    CallOptions options =
        CallOptions.DEFAULT
            .withExecutor(loop)
            .withStreamTracerFactory(
                new ClientStreamTracer.Factory() {
                  @Override
                  public ClientStreamTracer newClientStreamTracer(
                      ClientStreamTracer.StreamInfo info, Metadata headers) {
                    return new ClientStreamTracer() {
                      @Override
                      public void streamCreated(Attributes transport, Metadata headers) {
                        sent = true;
                      }

                      @Override
                      public void outboundHeaders() {
                        sent = true;
                      }
                    };
                  }
                });
    if (timed) {
      options = options.withDeadlineAfter(Loop.left(node.deadline()), TimeUnit.NANOSECONDS);
    }
    this.call = node.connection().newCall(method, options);
    call.start(this, headers);
  }

  /** Makes a call with one answer, until the deadline of the node. Fails with a CallError. */
  static <Q, A> CompletableFuture<A> unary(
      Loop loop, Node node, MethodDescriptor<Q, A> method, Q request) {
    Rpc<Q, A> rpc = new Rpc<>(node, method, true, loop, new Metadata());
    rpc.send(request);
    rpc.call.halfClose();
    return Futures.then(rpc.next(), answer -> rpc.end(answer.orElse(null)));
  }

  /** The only answer, once the node has ended the call well. */
  private CompletableFuture<A> end(A answer) {
    if (answer == null) {
      throw CallError.broken("the node ended the call without an answer");
    }
    return Futures.map(
        next(),
        more -> {
          if (more.isPresent()) {
            throw CallError.broken("two answers to one request");
          }
          return answer;
        });
  }

  /**
   * Sends one request, and opens the stream of its answers, which has no deadline.
   *
   * @param wait how long the node may let the request wait, in nanoseconds; 0: as long as it wants
   */
  static <Q, A> Rpc<Q, A> streaming(
      Loop loop, Node node, MethodDescriptor<Q, A> method, Q request, long wait) {
    Metadata headers = new Metadata();
    if (wait > 0) {
      headers.put(TIMEOUT, Math.max(TimeUnit.NANOSECONDS.toMillis(wait), 1) + "m");
    }
    Rpc<Q, A> rpc = new Rpc<>(node, method, false, loop, headers);
    rpc.send(request);
    rpc.call.halfClose();
    return rpc;
  }

  /** Opens a stream of requests and of answers. */
  static <Q, A> Rpc<Q, A> duplex(Loop loop, Node node, MethodDescriptor<Q, A> method) {
    return new Rpc<>(node, method, false, loop, new Metadata());
  }

  void send(Q request) {
    call.sendMessage(request);
  }

  /** Completes when the node has accepted the stream. Fails with a CallError. */
  CompletableFuture<Void> opened() {
    opened.whenComplete(
        (value, error) -> {
          if (opened.isCancelled()) {
            cancel();
          }
        });
    return opened;
  }

  void halfClose() {
    call.halfClose();
  }

  /** Ends the call. */
  void cancel() {
    call.cancel("the caller waits no longer", null);
  }

  /**
   * The next answer; empty: the node has ended the stream. Fails with a CallError. To cancel it
   * ends the whole call. Not to be called before the one before is done.
   */
  CompletableFuture<Optional<A>> next() {
    CompletableFuture<Optional<A>> next = new CompletableFuture<>();
    waiting = next;
    next.whenComplete(
        (value, error) -> {
          if (next.isCancelled()) {
            cancel();
          }
        });
    if (answers.isEmpty() && !over) {
      call.request(1);
    }
    deliver();
    return next;
  }

  private void deliver() {
    CompletableFuture<Optional<A>> next = waiting;
    if (next == null || (answers.isEmpty() && !over)) {
      return;
    }
    waiting = null;
    if (!answers.isEmpty()) {
      next.complete(Optional.of(answers.remove()));
    } else if (fault != null) {
      next.completeExceptionally(fault);
    } else {
      next.complete(Optional.empty());
    }
  }

  @Override
  public void onHeaders(Metadata headers) {
    opened.complete(null);
  }

  @Override
  public void onMessage(A answer) {
    answers.add(answer);
    deliver();
  }

  @Override
  public void onClose(Status status, Metadata trailers) {
    over = true;
    fault = status.isOk() ? null : CallError.of(status, trailers, sent);
    opened.completeExceptionally(
        fault == null ? CallError.broken("the node ended the stream") : fault);
    deliver();
  }
}
