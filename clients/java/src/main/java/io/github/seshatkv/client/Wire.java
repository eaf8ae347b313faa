package io.github.seshatkv.client;

import io.github.seshatkv.proto.kv.v1.Condition.Builder;
import io.github.seshatkv.proto.kv.v1.DeleteOperation;
import io.github.seshatkv.proto.kv.v1.GetOperation;
import io.github.seshatkv.proto.kv.v1.HeldLock;
import io.github.seshatkv.proto.kv.v1.Interval;
import io.github.seshatkv.proto.kv.v1.Keep;
import io.github.seshatkv.proto.kv.v1.KeyCondition;
import io.github.seshatkv.proto.kv.v1.SetOperation;

/** What programs say, as requests have it; and what nodes say, as programs have it. */
final class Wire {
  private Wire() {}

  static io.github.seshatkv.proto.kv.v1.Condition condition(Condition condition) {
    Builder proto = io.github.seshatkv.proto.kv.v1.Condition.newBuilder();
    if (condition instanceof Condition.Exists it) {
      proto.setKey(KeyCondition.newBuilder().setKey(it.key()).setExists(it.exists()));
    } else if (condition instanceof Condition.Revision it) {
      proto.setKey(KeyCondition.newBuilder().setKey(it.key()).setRevision(it.revision()));
    } else if (condition instanceof Condition.Value it) {
      proto.setKey(KeyCondition.newBuilder().setKey(it.key()).setValue(it.value()));
    } else if (condition instanceof Condition.Token it) {
      proto.setLock(HeldLock.newBuilder().setName(it.name()).setToken(it.token()));
    }
    return proto.build();
  }

  static io.github.seshatkv.proto.kv.v1.Operation operation(Operation operation) {
    var proto = io.github.seshatkv.proto.kv.v1.Operation.newBuilder();
    if (operation instanceof Operation.Set it) {
      proto.setSet(set(it));
    } else if (operation instanceof Operation.Get it) {
      proto.setGet(GetOperation.newBuilder().setKey(it.key()));
    } else if (operation instanceof Operation.Delete it) {
      proto.setDelete(DeleteOperation.newBuilder().setKey(it.key()));
    }
    return proto.build();
  }

  private static SetOperation set(Operation.Set set) {
    SetOperation.Builder proto = SetOperation.newBuilder().setKey(set.key()).setValue(set.value());
    if (set.lifetime() instanceof Lifetime.Ttl it) {
      proto.setTtl(Durations.toProto(it.ttl()));
    } else if (set.lifetime() instanceof Lifetime.Owner it) {
      proto.setOwner(it.session());
    } else if (set.lifetime() instanceof Lifetime.Kept) {
      proto.setKeep(Keep.getDefaultInstance());
    }
    return proto.build();
  }

  static io.github.seshatkv.proto.kv.v1.KeyRange range(KeyRange range) {
    var proto = io.github.seshatkv.proto.kv.v1.KeyRange.newBuilder();
    if (range instanceof KeyRange.Key it) {
      proto.setKey(it.key());
    } else if (range instanceof KeyRange.Prefix it) {
      proto.setPrefix(it.prefix());
    } else if (range instanceof KeyRange.Between it) {
      Interval.Builder interval = Interval.newBuilder().setStart(it.start());
      it.end().ifPresent(interval::setEnd);
      proto.setInterval(interval);
    }
    return proto.build();
  }

  /** The event that a node tells. Fails with a CallError if it makes no sense. */
  static Event event(io.github.seshatkv.proto.kv.v1.Event event) {
    if (!event.hasEntry()) {
      throw CallError.broken("an event without a key");
    }
    Event.Cause cause =
        switch (event.getCause()) {
          case CAUSE_SET -> null;
          case CAUSE_DELETED -> Event.Cause.DELETED;
          case CAUSE_EXPIRED -> Event.Cause.EXPIRED;
          case CAUSE_SESSION_ENDED -> Event.Cause.SESSION_ENDED;
          case CAUSE_UNSPECIFIED, UNRECOGNIZED -> Event.Cause.OTHER;
        };
    Entry entry = Entry.of(event.getEntry());
    return cause == null
        ? new Event.Bound(entry)
        : new Event.Removed(entry.key(), entry.revision(), cause);
  }

  /** Whether a command may change anything. */
  static boolean isWrite(Command command) {
    return command instanceof Txn txn ? txn.isWrite() : !(command instanceof Operation.Get);
  }
}
