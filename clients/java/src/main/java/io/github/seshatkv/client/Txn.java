package io.github.seshatkv.client;

import io.github.seshatkv.client.TxnOutcome.Result;
import io.github.seshatkv.proto.kv.v1.OperationResult;
import io.github.seshatkv.proto.kv.v1.TxnRequest;
import io.github.seshatkv.proto.kv.v1.TxnResponse;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import java.util.stream.Stream;

/**
 * A transaction: {@code success} is carried out if all {@code conditions} hold, otherwise {@code
 * failure}. It is atomic, and has one revision. Conditions and operations together are at most 128;
 * docs/COORDINATION.md has all bounds.
 *
 * @param conditions the conditions; none: {@code success} is carried out
 * @param success what is done if all conditions hold
 * @param failure what is done if one does not
 */
public record Txn(List<Condition> conditions, List<Operation> success, List<Operation> failure)
    implements Command {
  /** A transaction of nothing, to be added to. */
  public Txn() {
    this(List.of(), List.of(), List.of());
  }

  /** A transaction of copies of these lists. */
  public Txn {
    conditions = List.copyOf(conditions);
    success = List.copyOf(success);
    failure = List.copyOf(failure);
  }

  /** The same transaction with another condition. */
  public Txn when(Condition condition) {
    return new Txn(with(conditions, condition), success, failure);
  }

  /** The same transaction with another operation for the case that all conditions hold. */
  public Txn then(Operation operation) {
    return new Txn(conditions, with(success, operation), failure);
  }

  /** The same transaction with another operation for the case that a condition does not hold. */
  public Txn otherwise(Operation operation) {
    return new Txn(conditions, success, with(failure, operation));
  }

  private static <T> List<T> with(List<T> all, T another) {
    return Stream.concat(all.stream(), Stream.of(another)).toList();
  }

  /** Whether it may change anything. Otherwise it is a read. */
  boolean isWrite() {
    return Stream.concat(success.stream(), failure.stream())
        .anyMatch(operation -> !(operation instanceof Operation.Get));
  }

  /** The request, without session and cluster. */
  TxnRequest.Builder request() {
    return TxnRequest.newBuilder()
        .addAllConditions(conditions.stream().map(Wire::condition).toList())
        .addAllSuccess(success.stream().map(Wire::operation).toList())
        .addAllFailure(failure.stream().map(Wire::operation).toList());
  }

  /** The outcome that a response tells; empty: it is no answer to this transaction. */
  Optional<TxnOutcome> outcome(TxnResponse response) {
    List<Operation> operations = response.getSucceeded() ? success : failure;
    if (operations.size() != response.getResultsCount()) {
      return Optional.empty();
    }
    List<Result> results = new ArrayList<>();
    for (int i = 0; i < operations.size(); i++) {
      Optional<Result> result = result(operations.get(i), response.getResults(i));
      if (result.isEmpty()) {
        return Optional.empty();
      }
      results.add(result.get());
    }
    return Optional.of(
        new TxnOutcome(response.getSucceeded(), List.copyOf(results), response.getRevision()));
  }

  private static Optional<Result> result(Operation operation, OperationResult result) {
    if (operation instanceof Operation.Set && result.hasSet()) {
      return Optional.of(new Result.Set());
    }
    if (operation instanceof Operation.Get && result.hasGet()) {
      boolean bound = result.getGet().hasEntry();
      return Optional.of(
          new Result.Got(
              bound ? Optional.of(Entry.of(result.getGet().getEntry())) : Optional.empty()));
    }
    if (operation instanceof Operation.Delete && result.hasDelete()) {
      return Optional.of(new Result.Removed(result.getDelete().getExisted()));
    }
    return Optional.empty();
  }
}
