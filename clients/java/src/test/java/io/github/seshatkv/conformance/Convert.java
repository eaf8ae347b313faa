package io.github.seshatkv.conformance;

import com.google.protobuf.ByteString;
import io.github.seshatkv.client.Condition;
import io.github.seshatkv.client.Found;
import io.github.seshatkv.client.Lifetime;
import io.github.seshatkv.client.LivingSession;
import io.github.seshatkv.client.Lock;
import io.github.seshatkv.client.Reply;
import io.github.seshatkv.client.TxnOutcome;
import io.github.seshatkv.proto.conformance.v1.Deleted;
import io.github.seshatkv.proto.conformance.v1.Done;
import io.github.seshatkv.proto.conformance.v1.Entry;
import io.github.seshatkv.proto.conformance.v1.Event;
import io.github.seshatkv.proto.conformance.v1.Events;
import io.github.seshatkv.proto.conformance.v1.Got;
import io.github.seshatkv.proto.conformance.v1.Operation;
import io.github.seshatkv.proto.conformance.v1.OperationResult;
import io.github.seshatkv.proto.conformance.v1.Set;
import io.github.seshatkv.proto.conformance.v1.State;
import io.github.seshatkv.proto.conformance.v1.Update;
import java.time.Duration;
import java.util.Locale;
import java.util.Optional;

/** Turns the messages of the runner into values of the client, and back. */
final class Convert {
  private final Handles handles;

  Convert(Handles handles) {
    this.handles = handles;
  }

  static Duration duration(com.google.protobuf.Duration duration) {
    return Duration.ofSeconds(duration.getSeconds(), duration.getNanos());
  }

  Lifetime lifetime(Set set) {
    return switch (set.getLifetime().getLifetimeCase()) {
      case TTL -> Lifetime.ttl(duration(set.getLifetime().getTtl()));
      case OWNER ->
          Lifetime.ownedBy(handles.get(set.getLifetime().getOwner(), LivingSession.class));
      case KEEP -> Lifetime.keep();
      case LIFETIME_NOT_SET -> Lifetime.unlimited();
    };
  }

  /** A condition, on {@code key} if it names none. */
  Condition condition(io.github.seshatkv.proto.conformance.v1.Condition condition, ByteString key) {
    ByteString tested = condition.getKey().isEmpty() ? key : condition.getKey();
    return switch (condition.getTestCase()) {
      case EXISTS -> condition.getExists() ? Condition.exists(tested) : Condition.missing(tested);
      case REVISION -> Condition.revision(tested, condition.getRevision());
      case VALUE -> Condition.value(tested, condition.getValue());
      case HELD -> Condition.held(handles.get(condition.getHeld(), Lock.class));
      case TOKEN ->
          Condition.token(condition.getToken().getName(), condition.getToken().getToken());
      case TEST_NOT_SET -> throw new IllegalArgumentException("a condition without a test");
    };
  }

  io.github.seshatkv.client.Operation operation(Operation operation) {
    return switch (operation.getOperationCase()) {
      case SET ->
          io.github.seshatkv.client.Operation.set(
              operation.getSet().getKey(),
              operation.getSet().getValue(),
              lifetime(operation.getSet()));
      case GET -> io.github.seshatkv.client.Operation.get(operation.getGet().getKey());
      case DELETE -> io.github.seshatkv.client.Operation.delete(operation.getDelete().getKey());
      case OPERATION_NOT_SET -> throw new IllegalArgumentException("no operation");
    };
  }

  static Entry entry(io.github.seshatkv.client.Entry entry) {
    return Entry.newBuilder()
        .setKey(entry.key())
        .setValue(entry.value())
        .setRevision(entry.revision())
        .build();
  }

  static Got got(ByteString key, Found found) {
    Got.Builder got = Got.newBuilder();
    found
        .value()
        .ifPresent(
            value ->
                got.setEntry(
                    Entry.newBuilder().setKey(key).setValue(value).setRevision(found.revision())));
    return got.build();
  }

  static Deleted deleted(io.github.seshatkv.client.Deleted deleted) {
    return Deleted.newBuilder()
        .setExisted(deleted.existed())
        .setRevision(deleted.revision())
        .build();
  }

  static OperationResult result(TxnOutcome.Result result) {
    OperationResult.Builder proto = OperationResult.newBuilder();
    if (result instanceof TxnOutcome.Result.Got got) {
      Got.Builder found = Got.newBuilder();
      got.entry().ifPresent(entry -> found.setEntry(entry(entry)));
      proto.setGet(found);
    } else if (result instanceof TxnOutcome.Result.Removed removed) {
      proto.setExisted(removed.existed());
    } else {
      proto.setSet(Done.getDefaultInstance());
    }
    return proto.build();
  }

  static OperationResult.Builder reply(Operation command, Reply reply) {
    OperationResult.Builder proto = OperationResult.newBuilder();
    if (reply instanceof Reply.Failed failed) {
      return proto.setFailure(Program.failure(failed.error()));
    }
    if (reply instanceof Found found) {
      return proto.setGet(got(command.getGet().getKey(), found));
    }
    if (reply instanceof io.github.seshatkv.client.Deleted deleted) {
      return proto.setExisted(deleted.existed());
    }
    return proto.setSet(Done.getDefaultInstance());
  }

  /** The news, unless the runner does not want them. */
  static Optional<Update> update(io.github.seshatkv.client.Update update) {
    Update.Builder proto = Update.newBuilder();
    if (update instanceof io.github.seshatkv.client.Update.Reset) {
      return Optional.of(proto.setReset(Done.getDefaultInstance()).build());
    }
    if (update instanceof io.github.seshatkv.client.Update.State state) {
      State.Builder part = State.newBuilder().addAllDeleted(state.deleted());
      state.entries().forEach(entry -> part.addEntries(entry(entry)));
      return Optional.of(proto.setState(part).build());
    }
    if (update instanceof io.github.seshatkv.client.Update.Synced synced) {
      return Optional.of(proto.setSynced(synced.position().revision()).build());
    }
    if (update instanceof io.github.seshatkv.client.Update.Events events) {
      Events.Builder changes = Events.newBuilder().setRevision(events.revision());
      events.events().forEach(event -> changes.addEvents(event(event)));
      return Optional.of(proto.setEvents(changes).build());
    }
    return Optional.empty();
  }

  private static Event event(io.github.seshatkv.client.Event event) {
    if (event instanceof io.github.seshatkv.client.Event.Bound bound) {
      return Event.newBuilder().setCause("set").setEntry(entry(bound.entry())).build();
    }
    var removed = (io.github.seshatkv.client.Event.Removed) event;
    return Event.newBuilder()
        .setCause(removed.cause().name().toLowerCase(Locale.ROOT))
        .setEntry(Entry.newBuilder().setKey(removed.key()).setRevision(removed.revision()))
        .build();
  }
}
