package io.github.seshatkv.client;

import io.github.seshatkv.client.Node.Purpose;
import io.github.seshatkv.proto.kv.v1.KvServiceGrpc;
import io.github.seshatkv.proto.kv.v1.WatchRequest;
import io.github.seshatkv.proto.kv.v1.WatchResponse;
import java.time.Duration;
import java.util.Optional;
import java.util.OptionalLong;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;

/** Reads a watch, at one node after the other. Belongs to the loop. */
final class WatchReader {
  /** Silent progress intervals after which a connection counts as lost. */
  private static final int SILENT_INTERVALS = 3;

  /** The shortest time for which nodes are asked before the caller is told that none serves. */
  private static final long SHORTEST_OUTAGE = TimeUnit.SECONDS.toNanos(1);

  /** What is watched. */
  record Query(KeyRange range, boolean keysOnly, Duration progressInterval) {}

  /** The messages of one node. */
  private static final class Connection {
    private final Node node;
    private final Rpc<WatchRequest, WatchResponse> messages;
    private final long begun = Loop.now();
    private WatchResponse first;

    /** The cluster that a complete state has to come from; absent: any, or the first one. */
    private OptionalLong cluster = OptionalLong.empty();

    Connection(Node node, Rpc<WatchRequest, WatchResponse> messages, WatchResponse first) {
      this.node = node;
      this.messages = messages;
      this.first = first;
    }
  }

  private final Shared shared;
  private final long timeout;
  private final Query query;
  private final Assembly assembly;
  private final ClusterCheck check;
  private Connection connection;

  /** The node whose connection was lost. */
  private String lost;

  private long pause;

  /** Whether the caller knows of the present outage. */
  private boolean outageTold;

  WatchReader(Shared shared, long timeout, Query query, Assembly assembly) {
    this.shared = shared;
    this.timeout = Math.max(timeout, SHORTEST_OUTAGE);
    this.query = query;
    this.assembly = assembly;
    this.check = new ClusterCheck(shared, assembly.position());
    this.pause = shared.options().backoff().first();
  }

  /** The next news. To cancel it ends the watch. */
  CompletableFuture<Update> next() {
    CompletableFuture<Update> result = new CompletableFuture<>();
    follow(result);
    return result;
  }

  private void follow(CompletableFuture<Update> result) {
    if (result.isDone()) {
      return;
    }
    if (connection == null) {
      connect(result);
    } else {
      receive(result, connection);
    }
  }

  private void again(CompletableFuture<Update> result) {
    shared.loop().execute(() -> follow(result));
  }

  /** Connects to any node that serves. */
  private void connect(CompletableFuture<Update> result) {
    CompletableFuture<Search.Answer<Connection>> found =
        new Search<>(shared, Purpose.WATCHES, Loop.after(timeout), timeout, this::open)
            .endpoints(lost)
            .also(shared.nodes().connected())
            .run();
    Futures.cancelWith(result, found);
    found.whenComplete(
        (answer, error) -> {
          if (result.isDone()) {
            if (answer != null) {
              answer.value().messages.cancel();
            }
          } else if (error == null) {
            connection = answer.value();
            follow(result);
          } else {
            notConnected(result, Futures.error(error));
          }
        });
  }

  private void notConnected(CompletableFuture<Update> result, SeshatException error) {
    CompletableFuture<Boolean> replaced = check.isReplaced();
    Futures.cancelWith(result, replaced);
    replaced.whenComplete(
        (isReplaced, failed) -> {
          if (Boolean.TRUE.equals(isReplaced)) {
            again(result);
          } else if (error.isFinal()) {
            result.completeExceptionally(error);
          } else if (outageTold) {
            again(result);
          } else {
            outageTold = true;
            result.complete(new Update.Disconnected(error));
          }
        });
  }

  /** Begins a watch at {@code node}, and waits for its first message. */
  private CompletableFuture<Connection> open(Node node) {
    Rpc<WatchRequest, WatchResponse> messages =
        Rpc.streaming(shared.loop(), node, KvServiceGrpc.getWatchMethod(), request(), 0);
    CompletableFuture<Connection> opened =
        Futures.then(
            shared.loop().within(node.deadline(), messages.next()),
            message -> {
              WatchResponse first = message.orElseThrow(() -> CallError.broken(ENDED));
              Connection made = new Connection(node, messages, first);
              if (!first.hasReset() && assembly.position().isEmpty()) {
                throw CallError.broken("a watch begins without a reset");
              }
              return Futures.map(
                  expected(first, node),
                  cluster -> {
                    made.cluster = cluster;
                    return made;
                  });
            });
    opened.whenComplete(
        (made, error) -> {
          if (error != null) {
            messages.cancel();
          }
        });
    return opened;
  }

  /** The cluster that the state has to come from which this message begins. */
  private CompletableFuture<OptionalLong> expected(WatchResponse message, Node node) {
    if (message.hasReset()) {
      return check.of(node);
    }
    OptionalLong same =
        assembly.position().map(it -> OptionalLong.of(it.cluster())).orElse(OptionalLong.empty());
    return CompletableFuture.completedFuture(same);
  }

  private WatchRequest request() {
    WatchRequest.Builder request =
        WatchRequest.newBuilder()
            .setRange(Wire.range(query.range))
            .setMinRevision(assembly.floor())
            .setKeysOnly(query.keysOnly)
            .setProgressInterval(Durations.toProto(query.progressInterval));
    assembly
        .position()
        .ifPresent(it -> request.setClusterId(it.cluster()).setAfterRevision(it.revision()));
    return request.build();
  }

  /** Takes the next message. */
  private void receive(CompletableFuture<Update> result, Connection from) {
    CompletableFuture<WatchResponse> message = message(from);
    Futures.cancelWith(result, message);
    message.whenComplete(
        (answer, error) -> {
          if (result.isDone()) {
            return;
          }
          try {
            if (error != null) {
              throw CallError.of(error);
            }
            Optional<Update> update = take(from, answer);
            if (update.isPresent()) {
              result.complete(update.get());
            } else {
              again(result);
            }
          } catch (CallError fault) {
            lose(result, from, fault);
          }
        });
  }

  private CompletableFuture<WatchResponse> message(Connection from) {
    if (from.first != null) {
      WatchResponse first = from.first;
      from.first = null;
      return CompletableFuture.completedFuture(first);
    }
    long silence = Durations.nanos(query.progressInterval) * SILENT_INTERVALS;
    return Futures.then(
        shared.loop().within(Loop.after(silence), from.messages.next()),
        next -> {
          WatchResponse message = next.orElseThrow(() -> CallError.broken(ENDED));
          if (!message.hasReset()) {
            return CompletableFuture.completedFuture(message);
          }
          return Futures.map(
              check.of(from.node.until(Loop.after(silence))),
              cluster -> {
                from.cluster = cluster;
                return message;
              });
        });
  }

  private Optional<Update> take(Connection from, WatchResponse message) {
    if (message.hasSynced()) {
      check.synced(from.cluster, message.getSynced().getClusterId());
    }
    Optional<Update> update = assembly.add(message);
    if (message.hasSynced()) {
      outageTold = false;
    }
    return update;
  }

  /** Drops a connection, and waits before the next one. */
  private void lose(CompletableFuture<Update> result, Connection from, CallError fault) {
    shared.nodes().note(from.node, fault);
    if (fault.sendsElsewhere()) {
      shared.nodes().drop(from.node);
    }
    close();
    assembly.cutOff();
    lost = from.node.address();
    Backoff backoff = shared.options().backoff();
    if (Loop.now() - from.begun > backoff.longest()) {
      pause = backoff.first();
    }
    shared.loop().at(Loop.after(Backoff.jittered(pause, shared.random())), () -> follow(result));
    pause = backoff.longer(pause);
  }

  /** Ends the connection. */
  void close() {
    if (connection != null) {
      connection.messages.cancel();
      connection = null;
    }
  }

  private static final String ENDED = "the node ended the watch";
}
