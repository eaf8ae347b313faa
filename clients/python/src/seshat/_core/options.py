"""The settings of a client, and their bounds."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TypeAlias
from urllib.parse import urlsplit

from seshat.errors import Invalid

Seconds: TypeAlias = "float | timedelta"
"""A duration: seconds, or a `timedelta`."""

# Largest message that a node sends.
MAX_MESSAGE_BYTES = 256 * 1024 * 1024
CONNECT_TIMEOUT = 1.0
KEEPALIVE = 5.0
# Most claims whose state a client asks for at once. A node takes 4096 calls of one connection by default, and scans
# and observers use the same one. A question without a place there would have no answer in time, as if its node were
# gone.
_MAX_AWAITS = 3072
# How often clocks are read while something is waited for: timers stand still while the machine is suspended.
LOOK = 1.0


def seconds(duration: Seconds) -> float:
    return duration.total_seconds() if isinstance(duration, timedelta) else float(duration)


def _boot_time() -> float:
    """A clock that also counts while the machine is suspended; it stands still where there is none."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return 0.0 if clock is None else time.clock_gettime(clock)


@dataclass(frozen=True)
class Clocks:
    """The clocks of this machine, or those of a test."""

    monotonic: Callable[[], float] = time.monotonic
    boot: Callable[[], float] = _boot_time


@dataclass(frozen=True)
class Options:
    """The settings of a client."""

    timeout: float = 5.0
    attempt_timeout: float = 1.0
    """The longest first wait for one node."""
    trust: float = 1.0
    """How long an answer of the leader counts as proof that it leads, before a write that goes once."""
    cluster: int | None = None
    """The only cluster whose answers count. ``None``: that of the first answer."""
    shortest_pause: float = 0.02
    longest_pause: float = 0.5
    awaits: int = _MAX_AWAITS
    """Claims whose state is asked for at once."""
    clocks: Clocks = field(default_factory=Clocks)
    random: random.Random = field(default_factory=random.SystemRandom)

    def longer(self, pause: float) -> float:
        """The pause after `pause`."""
        return min(pause * 2, self.longest_pause)

    def jittered(self, pause: float) -> float:
        """Between half of `pause` and all of it: clients that failed together must not return together."""
        return pause * (1 + self.random.random()) / 2


def endpoints(texts: Iterable[str]) -> list[str]:
    """The endpoints of a client. Each text is one, or a list with commas. Raises `Invalid`."""
    found = [endpoint(part) for text in texts for part in text.split(",") if part.strip()]
    if not found:
        raise Invalid("a client needs at least one endpoint")
    return list(dict.fromkeys(found))


def endpoint(text: str) -> str:
    """Checks a ``host:port``, with or without the prefix ``http://``. Raises `Invalid`."""
    address = text.strip().removeprefix("http://").removesuffix("/")
    try:
        parts = urlsplit(f"//{address}")
        valid = bool(parts.hostname and parts.port) and parts.netloc == address and "@" not in address
    except ValueError:
        valid = False
    if not valid or any(char.isspace() for char in address):
        raise Invalid(f"{text!r} is not of the form host:port, e.g. 127.0.0.1:6379")
    return address
