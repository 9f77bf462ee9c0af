"""The last verdict of sessions on their environment's flow, by environment, so that no environment has to read all its sessions."""

from dataclasses import dataclass, field

from flowsession.engine.store.keys import Key, Name
from flowsession.engine.store.objects import SessionEntry
from flowsession.reconcile.flow_valid import SessionCheck, of_status


@dataclass
class Checks:
    """The last verdict wins: sessions with the same content rarely differ, and each session's status shows its own."""

    _last: dict[Name, SessionCheck] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self._last)

    def note(self, known: SessionEntry | None, entry: SessionEntry) -> set[Key]:
        """Record a session; return its environment if that has something to write: another session, or another verdict on the flow."""
        environment = entry.environment
        concerned = {Key("FlowEnvironment", *environment)}
        check = of_status(entry.meta.name, entry.status)
        if check is None or (known and check == of_status(known.meta.name, known.status)):
            return concerned if known is None else set()
        before, self._last[environment] = self._last.get(environment), check
        earlier = before and (before.flow_revision, before.packages_revision, before.verdict)
        news = earlier != (check.flow_revision, check.packages_revision, check.verdict)
        return concerned if news or known is None else set()

    def of(self, environment: Name) -> SessionCheck | None:
        """Return the last verdict on an environment's flow."""
        return self._last.get(environment)

    def forget(self, environment: Name, *, unless: bool = False) -> None:
        """Drop an environment's verdict unless it has other sessions; its own status keeps the last one."""
        if not unless:
            self._last.pop(environment, None)
