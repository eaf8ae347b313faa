package io.github.seshatkv.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import com.google.protobuf.ByteString;
import io.github.seshatkv.proto.kv.v1.Cause;
import io.github.seshatkv.proto.kv.v1.Entry;
import io.github.seshatkv.proto.kv.v1.WatchEvents;
import io.github.seshatkv.proto.kv.v1.WatchProgress;
import io.github.seshatkv.proto.kv.v1.WatchReset;
import io.github.seshatkv.proto.kv.v1.WatchResponse;
import io.github.seshatkv.proto.kv.v1.WatchState;
import io.github.seshatkv.proto.kv.v1.WatchSynced;
import java.util.List;
import java.util.Optional;
import org.junit.jupiter.api.Test;

class AssemblyTest {
  private static final long CLUSTER = 9;
  private final Assembly assembly = new Assembly(Optional.empty(), 0);

  private static Entry entry(String key, long revision) {
    return Entry.newBuilder().setKey(Bytes.of(key)).setRevision(revision).build();
  }

  private static WatchResponse reset() {
    return WatchResponse.newBuilder().setReset(WatchReset.getDefaultInstance()).build();
  }

  private static WatchResponse state(Entry... entries) {
    return WatchResponse.newBuilder()
        .setState(
            WatchState.newBuilder().addAllEntries(List.of(entries)).addDeleted(Bytes.of("gone")))
        .build();
  }

  private static WatchResponse synced(long revision) {
    return WatchResponse.newBuilder()
        .setSynced(WatchSynced.newBuilder().setClusterId(CLUSTER).setRevision(revision))
        .build();
  }

  private static WatchResponse progress(long revision) {
    return WatchResponse.newBuilder()
        .setProgress(WatchProgress.newBuilder().setRevision(revision))
        .build();
  }

  private static WatchResponse events(long revision, boolean more, String key) {
    WatchEvents.Builder events = WatchEvents.newBuilder().setRevision(revision).setMore(more);
    events.addEventsBuilder().setCause(Cause.CAUSE_SET).setEntry(entry(key, revision));
    return WatchResponse.newBuilder().setEvents(events).build();
  }

  private void breaks(WatchResponse message) {
    assertThrows(CallError.class, () -> assembly.add(message));
  }

  private void begin(long revision) {
    assembly.add(reset());
    assembly.add(synced(revision));
  }

  @Test
  void standsNowhereUntilTheStateIsComplete() {
    assertEquals(Optional.of(new Update.Reset()), assembly.add(reset()));
    Update.State state = (Update.State) assembly.add(state(entry("a", 4))).orElseThrow();
    assertEquals(List.of(ByteString.copyFromUtf8("gone")), state.deleted());
    assertEquals(Optional.empty(), assembly.position());
    assertEquals(4, assembly.floor());
    Position position = new Position(CLUSTER, 5);
    assertEquals(Optional.of(new Update.Synced(position)), assembly.add(synced(5)));
    assertEquals(Optional.of(position), assembly.position());
    assembly.add(state(entry("a", 6)));
    assertEquals(Optional.empty(), assembly.position());
  }

  @Test
  void changesOfOneRevisionArePassedOnWhole() {
    begin(5);
    assertEquals(Optional.empty(), assembly.add(events(7, true, "a")));
    assertEquals(Optional.of(new Position(CLUSTER, 5)), assembly.position());
    Update.Events whole = (Update.Events) assembly.add(events(7, false, "b")).orElseThrow();
    assertEquals(List.of("a", "b"), whole.events().stream().map(AssemblyTest::key).toList());
    assertEquals(Optional.of(new Position(CLUSTER, 7)), assembly.position());
  }

  private static String key(Event event) {
    return event.key().toStringUtf8();
  }

  @Test
  void aHalfRevisionIsDroppedWithItsConnection() {
    begin(5);
    assembly.add(events(7, true, "a"));
    assembly.cutOff();
    Update.Events whole = (Update.Events) assembly.add(events(7, false, "b")).orElseThrow();
    assertEquals(List.of("b"), whole.events().stream().map(AssemblyTest::key).toList());
  }

  @Test
  void aHalfRevisionIsDroppedByAResetOrAState() {
    begin(5);
    assembly.add(events(7, true, "a"));
    assembly.add(state());
    assembly.add(synced(8));
    assembly.add(events(9, true, "a"));
    assembly.add(reset());
    assembly.add(synced(10));
    Update.Events whole = (Update.Events) assembly.add(events(11, false, "b")).orElseThrow();
    assertEquals(1, whole.events().size());
  }

  @Test
  void whatBreaksTheOrderIsAFault() {
    breaks(WatchResponse.getDefaultInstance());
    breaks(events(1, false, "a"));
    breaks(progress(1));
    begin(5);
    breaks(events(5, false, "a"));
    breaks(progress(4));
    assembly.add(events(7, true, "a"));
    breaks(synced(9));
    breaks(progress(7));
    breaks(events(8, false, "a"));
  }

  @Test
  void noEarlierStateIsTold() {
    begin(5);
    assembly.add(progress(6));
    assembly.add(reset());
    breaks(synced(5));
    assertEquals(6, assembly.floor());
    assembly.add(synced(6));
  }

  @Test
  void aCallerThatKnowsARevisionIsToldOfNoEarlierOne() {
    Assembly resumed = new Assembly(Optional.of(new Position(CLUSTER, 8)), 3);
    assertEquals(8, resumed.floor());
    assertEquals(3, new Assembly(Optional.empty(), 3).floor());
  }

  @Test
  void aCauseThatIsNotKnownIsARemoval() {
    begin(5);
    WatchEvents.Builder events = WatchEvents.newBuilder().setRevision(6);
    events.addEventsBuilder().setCauseValue(99).setEntry(entry("a", 6));
    Update.Events whole =
        (Update.Events)
            assembly.add(WatchResponse.newBuilder().setEvents(events).build()).orElseThrow();
    assertEquals(List.of(new Event.Removed(Bytes.of("a"), 6, Event.Cause.OTHER)), whole.events());
  }
}
