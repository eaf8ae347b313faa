"""The map of a mirror: a range as it was at one moment."""

from __future__ import annotations

from collections.abc import Iterable

from seshat.updates import Events, Position, Progress, Reset, State, Synced, Update
from seshat.values import Entry


class Copy:
    """While a new state arrives, it shows the former one."""

    def __init__(self) -> None:
        self.shown: dict[bytes, Entry] = {}
        self.position: Position | None = None
        self._coming: dict[bytes, Entry | None] | None = None
        self._resets = False

    def apply(self, update: Update) -> bool:
        """Returns whether what is shown has changed."""
        if isinstance(update, Reset):
            self._coming, self._resets = {}, True
        elif isinstance(update, State):
            if self._coming is None:
                self._coming, self._resets = {}, False
            self._coming.update((entry.key, entry) for entry in update.entries)
            self._coming.update(dict.fromkeys(update.deleted))
        elif isinstance(update, Synced):
            self.position = update.position
            return self._show()
        elif isinstance(update, Events):
            self._advance(update.revision)
            changes = [(it.entry.key, None if it.is_removal else it.entry) for it in update.events]
            return self._change(changes)
        elif isinstance(update, Progress):
            self._advance(update.revision)
        return False

    def _advance(self, revision: int) -> None:
        if self.position is not None:
            self.position = Position(self.position.cluster, revision)

    def _show(self) -> bool:
        coming, self._coming = self._coming, None
        if coming is None:
            return False
        if not self._resets:
            return self._change(coming.items())
        present = {key: entry for key, entry in coming.items() if entry is not None}
        changed = present != self.shown
        self.shown = present
        return changed

    def _change(self, changes: Iterable[tuple[bytes, Entry | None]]) -> bool:
        return sum(self._set(key, entry) for key, entry in changes) > 0

    def _set(self, key: bytes, entry: Entry | None) -> bool:
        before = self.shown.get(key)
        if entry is None:
            self.shown.pop(key, None)
        else:
            self.shown[key] = entry
        return before != entry
