package io.github.seshatkv.client;

import io.github.seshatkv.proto.kv.v1.DeleteRequest;
import io.github.seshatkv.proto.kv.v1.GetRequest;
import io.github.seshatkv.proto.kv.v1.PipelineCommand;
import io.github.seshatkv.proto.kv.v1.PipelineRequest;
import io.github.seshatkv.proto.kv.v1.PipelineResult;
import io.github.seshatkv.proto.kv.v1.Session;
import io.github.seshatkv.proto.kv.v1.SetRequest;
import java.util.List;
import java.util.Optional;
import java.util.OptionalLong;
import java.util.concurrent.CompletableFuture;

/** A batch of a pipeline: its request, and its answers. Belongs to the loop. */
final class Batch {
  final List<Command> commands;
  final long deadline;
  final CompletableFuture<List<Reply>> answers = new CompletableFuture<>();
  long id;

  /** When it was sent last, unless that attempt surely had no effect. */
  OptionalLong sent = OptionalLong.empty();

  /** Whether an earlier attempt may have been applied. */
  boolean inDoubt;

  private final Optional<Numbers> numbers;
  private long firstNumber;

  Batch(List<Command> commands, long deadline, Optional<Numbers> numbers) {
    this.commands = commands;
    this.deadline = deadline;
    this.numbers = numbers;
  }

  /** How many numbers it needs. */
  int writes() {
    return (int) commands.stream().filter(Wire::isWrite).count();
  }

  /** Its writes have the numbers from {@code first} on. */
  void number(long first) {
    firstNumber = first;
  }

  /** Its caller waits no longer for its numbers. */
  void release() {
    numbers.ifPresent(
        all -> {
          for (int i = 0; i < writes() && firstNumber > 0; i++) {
            all.release(firstNumber + i);
          }
        });
  }

  /** The request for the batch, if it is sent now. */
  PipelineRequest request(OptionalLong cluster) {
    PipelineRequest.Builder request = PipelineRequest.newBuilder().setId(id);
    cluster.ifPresent(request::setClusterId);
    long number = firstNumber;
    for (Command command : commands) {
      Optional<Session> stamp = Optional.empty();
      if (numbers.isPresent() && Wire.isWrite(command)) {
        stamp = Optional.of(numbers.get().stamp(number++));
      }
      request.addCommands(toProto(command, stamp));
    }
    return request.build();
  }

  private static PipelineCommand toProto(Command command, Optional<Session> stamp) {
    PipelineCommand.Builder proto = PipelineCommand.newBuilder();
    if (command instanceof Operation.Get get) {
      proto.setGet(GetRequest.newBuilder().setKey(get.key()));
    } else if (command instanceof Operation.Delete delete) {
      DeleteRequest.Builder request = DeleteRequest.newBuilder().setKey(delete.key());
      stamp.ifPresent(request::setSession);
      proto.setDelete(request);
    } else if (plain(command).isPresent()) {
      Operation.Set set = plain(command).get();
      SetRequest.Builder request = SetRequest.newBuilder().setKey(set.key()).setValue(set.value());
      stamp.ifPresent(request::setSession);
      proto.setSet(request);
    } else {
      var request = transaction(command).request();
      stamp.ifPresent(request::setSession);
      proto.setTxn(request);
    }
    return proto.build();
  }

  /** The write without a lifetime that {@code command} is. */
  private static Optional<Operation.Set> plain(Command command) {
    boolean isPlain =
        command instanceof Operation.Set set && set.lifetime() instanceof Lifetime.Unlimited;
    return isPlain ? Optional.of((Operation.Set) command) : Optional.empty();
  }

  /** The transaction that {@code command} is: a write with a lifetime is one, too. */
  private static Txn transaction(Command command) {
    return command instanceof Txn txn ? txn : new Txn().then((Operation) command);
  }

  /** The answer to {@code command}. Fails with a CallError. */
  static Reply reply(Command command, PipelineResult result) {
    if (result.hasError()) {
      throw CallError.of(result.getError());
    }
    if (command instanceof Operation.Get && result.hasGet()) {
      var get = result.getGet();
      return new Found(
          get.hasValue() ? Optional.of(get.getValue()) : Optional.empty(),
          get.getRevision(),
          get.getAppliedIndex());
    }
    if (command instanceof Operation.Delete && result.hasDelete()) {
      return new Deleted(result.getDelete().getExisted(), result.getDelete().getAppliedIndex());
    }
    if (plain(command).isPresent() && result.hasSet()) {
      return new Written(result.getSet().getAppliedIndex());
    }
    if (result.hasTxn() && (command instanceof Txn || command instanceof Operation.Set)) {
      Optional<TxnOutcome> outcome = transaction(command).outcome(result.getTxn());
      if (outcome.isPresent()) {
        return command instanceof Txn ? outcome.get() : new Written(outcome.get().revision());
      }
    }
    throw CallError.broken("an answer to nothing that was asked");
  }

  /** The answers if the stream ended with {@code fault} before they came. */
  List<Reply> failed(String address, CallError fault) {
    boolean doubtful = inDoubt || (sent.isPresent() && fault.applied() == Applied.UNKNOWN);
    return commands.stream()
        .map(
            command -> {
              CallError own =
                  doubtful && Wire.isWrite(command) ? fault.inDoubt() : fault.notApplied();
              return (Reply) new Reply.Failed(own.ended(address));
            })
        .toList();
  }
}
