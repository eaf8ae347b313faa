package io.github.seshatkv.client;

import java.io.IOException;
import java.io.RandomAccessFile;
import java.nio.charset.StandardCharsets;

/**
 * Two clocks: the one that moves timers, and one that also counts while the machine is suspended.
 */
interface Clock {
  /** Nanoseconds since some moment, by the monotonic clock. */
  long nanos();

  /** Nanoseconds since some moment, suspended time included; 0: there is no such clock. */
  long bootNanos();

  /** The clocks of the system. */
  Clock SYSTEM = new SystemClock();

  /** A moment on both clocks. */
  record Moment(long nanos, long bootNanos) {
    static Moment now(Clock clock) {
      return new Moment(clock.nanos(), clock.bootNanos());
    }

    /** The time since then, by the clock that has counted more. */
    long elapsed(Clock clock) {
      return Math.max(clock.nanos() - nanos, clock.bootNanos() - bootNanos);
    }
  }

  /**
   * {@code System.nanoTime} stands still while Linux is suspended, and Java has no other clock that
   * never goes back. So this one reads {@code /proc/uptime}, which counts on, in steps of 10 ms.
   */
  final class SystemClock implements Clock {
    private static final long NANOS_PER_STEP = 10_000_000;
    private final RandomAccessFile uptime = open();

    private static RandomAccessFile open() {
      try {
        return new RandomAccessFile("/proc/uptime", "r");
      } catch (IOException notLinux) {
        return null;
      }
    }

    @Override
    public long nanos() {
      return System.nanoTime();
    }

    @Override
    public long bootNanos() {
      if (uptime == null) {
        return 0;
      }
      byte[] text = new byte[64];
      try {
        // Not a channel: an interrupt of the thread that reads it would close that.
        synchronized (this) {
          uptime.seek(0);
          int length = uptime.read(text);
          return parse(new String(text, 0, Math.max(length, 0), StandardCharsets.US_ASCII));
        }
      } catch (IOException | NumberFormatException | IndexOutOfBoundsException unreadable) {
        return 0;
      }
    }

    /** The first number, which has seconds with two decimals. */
    static long parse(String text) {
      String seconds = text.substring(0, text.indexOf(' '));
      return Long.parseLong(seconds.replace(".", "")) * NANOS_PER_STEP;
    }
  }
}
