package io.github.seshatkv.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.seshatkv.proto.kv.v1.DeleteResult;
import io.github.seshatkv.proto.kv.v1.GetResult;
import io.github.seshatkv.proto.kv.v1.OperationResult;
import io.github.seshatkv.proto.kv.v1.SetResult;
import io.github.seshatkv.proto.kv.v1.TxnRequest;
import io.github.seshatkv.proto.kv.v1.TxnResponse;
import java.time.Duration;
import java.util.List;
import java.util.Optional;
import org.junit.jupiter.api.Test;

class TxnTest {
  private static final OperationResult SET =
      OperationResult.newBuilder().setSet(SetResult.getDefaultInstance()).build();
  private static final OperationResult MISSING =
      OperationResult.newBuilder().setGet(GetResult.getDefaultInstance()).build();
  private static final OperationResult REMOVED =
      OperationResult.newBuilder().setDelete(DeleteResult.newBuilder().setExisted(true)).build();

  private final Txn txn =
      new Txn()
          .when(Condition.missing("a"))
          .then(Operation.set("a", "1"))
          .then(Operation.get("b"))
          .otherwise(Operation.delete("a"));

  @Test
  void oneThatOnlyReadsIsNoWrite() {
    assertFalse(new Txn().then(Operation.get("a")).otherwise(Operation.get("b")).isWrite());
    assertTrue(new Txn().otherwise(Operation.delete("a")).isWrite());
    assertTrue(new Txn().then(Operation.set("a", "")).isWrite());
  }

  @Test
  void anAnswerHasOneResultForEachOperation() {
    TxnResponse.Builder response =
        TxnResponse.newBuilder().setSucceeded(true).setRevision(3).addResults(SET);
    assertEquals(Optional.empty(), txn.outcome(response.build()));
    response.addResults(MISSING);
    List<TxnOutcome.Result> results =
        List.of(new TxnOutcome.Result.Set(), new TxnOutcome.Result.Got(Optional.empty()));
    assertEquals(Optional.of(new TxnOutcome(true, results, 3)), txn.outcome(response.build()));
    assertEquals(Optional.empty(), txn.outcome(response.setSucceeded(false).build()));
  }

  @Test
  void anAnswerToAnotherTransactionIsNone() {
    TxnResponse.Builder response = TxnResponse.newBuilder().addResults(SET);
    assertEquals(Optional.empty(), txn.outcome(response.build()));
    assertTrue(txn.outcome(response.setResults(0, REMOVED).build()).isPresent());
  }

  @Test
  void requestsHaveConditionsAndLifetimes() {
    TxnRequest request =
        new Txn()
            .when(Condition.revision("a", 0))
            .when(Condition.token("lock", -1))
            .then(Operation.set("a", "", Lifetime.ttl(Duration.ofMillis(1500))))
            .then(Operation.set("b", "", Lifetime.keep()))
            .request()
            .build();
    assertTrue(request.getConditions(0).getKey().hasRevision());
    assertEquals(-1, request.getConditions(1).getLock().getToken());
    assertEquals(500_000_000, request.getSuccess(0).getSet().getTtl().getNanos());
    assertTrue(request.getSuccess(1).getSet().hasKeep());
  }
}
