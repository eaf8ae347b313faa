package io.github.seshatkv.client;

import io.github.seshatkv.client.Node.Purpose;
import io.github.seshatkv.proto.kv.v1.KvServiceGrpc;
import io.github.seshatkv.proto.kv.v1.ScanRequest;
import io.github.seshatkv.proto.kv.v1.ScanResponse;
import java.util.ArrayList;
import java.util.List;
import java.util.OptionalLong;
import java.util.concurrent.CompletableFuture;

/**
 * Reads a scan part after part. Belongs to the loop.
 *
 * <p>The first part comes with an ordinary call, which is repeated like a read. If the stream
 * breaks after that, what is left can only be read at a later moment: the scan is interrupted.
 */
final class ScanReader {
  /** What is to be read. */
  record Query(KeyRange range, long limit, boolean keysOnly, boolean countOnly) {}

  /** All of it. */
  record Whole(List<Entry> entries, long count) {}

  private record Answer(Node node, Rpc<ScanRequest, ScanResponse> parts, ScanResponse first) {}

  private final Shared shared;
  private final long timeout;
  private final Query query;
  private Answer answer;

  ScanReader(Shared shared, long timeout, Query query) {
    this.shared = shared;
    this.timeout = timeout;
    this.query = query;
  }

  /** Whether no part follows this one: only the last one tells the count, or that it is empty. */
  static boolean isLast(ScanResponse part) {
    return part.getCount() > 0 || !part.getMore();
  }

  /** The entries of all parts. */
  CompletableFuture<Whole> whole() {
    CompletableFuture<Whole> result = new CompletableFuture<>();
    // The loop would go deeper with each part that is there already.
    more(result, new ArrayList<>());
    result.whenComplete((whole, error) -> close());
    return result;
  }

  private void more(CompletableFuture<Whole> result, List<Entry> entries) {
    CompletableFuture<ScanResponse> part = part();
    Futures.cancelWith(result, part);
    part.whenComplete(
        (response, error) -> {
          if (error != null) {
            result.completeExceptionally(Futures.unwrap(error));
            return;
          }
          response.getEntriesList().forEach(entry -> entries.add(Entry.of(entry)));
          if (isLast(response)) {
            result.complete(new Whole(entries, response.getCount()));
          } else {
            shared.loop().execute(() -> more(result, entries));
          }
        });
  }

  /** The next part. */
  CompletableFuture<ScanResponse> part() {
    long deadline = Loop.after(timeout);
    if (answer != null) {
      return next(answer, deadline);
    }
    Call.Scope scope = new Call.Scope(timeout, OptionalLong.empty(), Purpose.STREAMS);
    return Futures.map(
        Call.make(shared, scope, deadline, Repeat.READ, this::begin),
        begun -> {
          answer = begun;
          return begun.first;
        });
  }

  private CompletableFuture<Answer> begin(Node node) {
    ScanRequest.Builder request =
        ScanRequest.newBuilder()
            .setRange(Wire.range(query.range))
            .setLimit(query.limit)
            .setKeysOnly(query.keysOnly)
            .setCountOnly(query.countOnly);
    node.cluster().ifPresent(request::setClusterId);
    // Shorter than the wait for the answer: a node without room for another scan says so in time.
    long wait = Loop.left(node.deadline()) / 10 * 9;
    Rpc<ScanRequest, ScanResponse> parts =
        Rpc.streaming(shared.loop(), node, KvServiceGrpc.getScanMethod(), request.build(), wait);
    return Futures.map(
        shared.loop().within(node.deadline(), parts.next()),
        first -> new Answer(node, parts, first.orElseThrow(() -> CallError.broken(CUT_SHORT))));
  }

  private CompletableFuture<ScanResponse> next(Answer from, long deadline) {
    long given = Loop.left(deadline);
    CompletableFuture<ScanResponse> result = new CompletableFuture<>();
    var part = shared.loop().within(deadline, from.parts.next());
    Futures.cancelWith(result, part);
    part.whenComplete(
        (response, error) -> {
          if (error == null && response.isPresent()) {
            result.complete(response.get());
            return;
          }
          CallError fault = error == null ? CallError.broken(CUT_SHORT) : CallError.of(error);
          Call.note(shared, from.node, fault.notApplied(), given);
          result.completeExceptionally(interrupted(from.node, fault.notApplied()));
        });
    return result;
  }

  private static SeshatException interrupted(Node node, CallError fault) {
    if (fault.retry() != Retry.LATER) {
      return fault.ended(node.address());
    }
    return SeshatException.of(
        SeshatException.Kind.INTERRUPTED,
        fault,
        "the scan was cut off, begin it again: " + node.address() + ": " + fault.getMessage());
  }

  /** Ends the answer. */
  void close() {
    if (answer != null) {
      answer.parts.cancel();
    }
  }

  private static final String CUT_SHORT = "the answer ends before its last part";
}
