"""The client for an event loop: the same as `seshat`, with calls that are awaited.

All values and errors are those of `seshat`.
"""

from seshat._loop.client import Client
from seshat._loop.opening import Opening
from seshat._loop.sessions import LivingSession, Lock, Session
from seshat._loop.streams import Answers, Holders, Mirror, Pipeline, Scan, Updates

__all__ = [
    "Answers",
    "Client",
    "Holders",
    "LivingSession",
    "Lock",
    "Mirror",
    "Opening",
    "Pipeline",
    "Scan",
    "Session",
    "Updates",
]
