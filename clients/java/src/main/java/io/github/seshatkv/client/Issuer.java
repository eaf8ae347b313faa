package io.github.seshatkv.client;

import com.google.protobuf.ByteString;
import io.github.seshatkv.client.Node.Purpose;
import io.github.seshatkv.proto.kv.v1.DeleteRequest;
import io.github.seshatkv.proto.kv.v1.GetRequest;
import io.github.seshatkv.proto.kv.v1.KvServiceGrpc;
import io.github.seshatkv.proto.kv.v1.Session;
import io.github.seshatkv.proto.kv.v1.SetRequest;
import io.github.seshatkv.proto.kv.v1.TxnRequest;
import java.util.Optional;
import java.util.OptionalLong;
import java.util.concurrent.CompletableFuture;
import java.util.function.BiFunction;
import java.util.function.Function;

/**
 * Makes reads and writes, of a client or within a session. Belongs to the loop.
 *
 * @param timeout of each call
 * @param session gives each write a number, if there is one
 */
record Issuer(Shared shared, long timeout, Optional<SessionState> session) {

  CompletableFuture<Found> get(ByteString key) {
    session.ifPresent(SessionState::holds);
    return read(
        node -> {
          GetRequest.Builder request = GetRequest.newBuilder().setKey(key);
          node.cluster().ifPresent(request::setClusterId);
          return Futures.map(
              Rpc.unary(shared.loop(), node, KvServiceGrpc.getGetMethod(), request.build()),
              answer ->
                  new Found(
                      answer.hasValue() ? Optional.of(answer.getValue()) : Optional.empty(),
                      answer.getRevision(),
                      answer.getAppliedIndex()));
        });
  }

  CompletableFuture<Written> set(ByteString key, ByteString value, Lifetime lifetime) {
    if (!(lifetime instanceof Lifetime.Unlimited)) {
      return Futures.map(
          txn(new Txn().then(Operation.set(key, value, lifetime))),
          outcome -> new Written(outcome.revision()));
    }
    return write(
        (node, stamp) -> {
          SetRequest.Builder request = SetRequest.newBuilder().setKey(key).setValue(value);
          stamp.ifPresent(request::setSession);
          node.cluster().ifPresent(request::setClusterId);
          return Futures.map(
              Rpc.unary(shared.loop(), node, KvServiceGrpc.getSetMethod(), request.build()),
              answer -> new Written(answer.getAppliedIndex()));
        });
  }

  CompletableFuture<Deleted> delete(ByteString key) {
    return write(
        (node, stamp) -> {
          DeleteRequest.Builder request = DeleteRequest.newBuilder().setKey(key);
          stamp.ifPresent(request::setSession);
          node.cluster().ifPresent(request::setClusterId);
          return Futures.map(
              Rpc.unary(shared.loop(), node, KvServiceGrpc.getDeleteMethod(), request.build()),
              answer -> new Deleted(answer.getExisted(), answer.getAppliedIndex()));
        });
  }

  CompletableFuture<TxnOutcome> txn(Txn txn) {
    if (txn.isWrite()) {
      return write((node, stamp) -> txn(txn, node, stamp));
    }
    session.ifPresent(SessionState::holds);
    return read(node -> txn(txn, node, Optional.empty()));
  }

  private CompletableFuture<TxnOutcome> txn(Txn txn, Node node, Optional<Session> stamp) {
    TxnRequest.Builder request = txn.request();
    stamp.ifPresent(request::setSession);
    node.cluster().ifPresent(request::setClusterId);
    return Futures.map(
        Rpc.unary(shared.loop(), node, KvServiceGrpc.getTxnMethod(), request.build()),
        // Nothing is known of a write whose answer makes no sense.
        answer ->
            txn.outcome(answer)
                .orElseThrow(() -> CallError.broken("the node answered another transaction")));
  }

  private <T> CompletableFuture<T> read(Function<Node, CompletableFuture<T>> make) {
    Call.Scope scope = new Call.Scope(timeout, OptionalLong.empty(), Purpose.CALLS);
    return Call.make(shared, scope, Loop.after(timeout), Repeat.READ, make);
  }

  private <T> CompletableFuture<T> write(
      BiFunction<Node, Optional<Session>, CompletableFuture<T>> make) {
    long deadline = Loop.after(timeout);
    if (session.isEmpty()) {
      Call.Scope scope = new Call.Scope(timeout, OptionalLong.empty(), Purpose.CALLS);
      return Call.make(
          shared, scope, deadline, Repeat.ONCE, node -> make.apply(node, Optional.empty()));
    }
    SessionState in = session.get();
    in.holds();
    Call.Scope scope = new Call.Scope(timeout, in.cluster(), Purpose.CALLS);
    return Futures.then(
        in.next(shared.loop(), 1, deadline),
        number -> {
          CompletableFuture<T> call;
          try {
            in.holds();
            call =
                Call.make(
                    shared,
                    scope,
                    deadline,
                    Repeat.NUMBERED,
                    node -> make.apply(node, Optional.of(in.numbers().stamp(number))));
          } catch (RuntimeException lost) {
            call = CompletableFuture.failedFuture(lost);
          }
          call.whenComplete((value, error) -> in.numbers().release(number));
          return call;
        });
  }
}
