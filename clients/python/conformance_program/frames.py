"""Messages after their length as a varint, on standard input and output."""

from __future__ import annotations

import sys
import threading

from google.protobuf.message import Message

_lock = threading.Lock()


def read() -> bytes | None:
    """The next message; ``None`` at the end."""
    length = shift = 0
    while True:
        byte = sys.stdin.buffer.read(1)
        if not byte:
            return None
        length |= (byte[0] & 0x7F) << shift
        shift += 7
        if byte[0] < 0x80:
            return sys.stdin.buffer.read(length)


def write(message: Message) -> None:
    payload = message.SerializeToString()
    length, head = len(payload), bytearray()
    while length >= 0x80:
        head.append(length & 0x7F | 0x80)
        length >>= 7
    head.append(length)
    with _lock:
        sys.stdout.buffer.write(bytes(head) + payload)
        sys.stdout.buffer.flush()
