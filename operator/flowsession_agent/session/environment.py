"""Bring the session to the state that the operator ordered: the flow folder at once, packages by an install in the background."""

from __future__ import annotations

import os
import sys
import threading

from flowsession_agent.digests import of_content
from flowsession_agent.errors import no_edits, retired
from flowsession_agent.server.state import Install
from flowsession_agent.session import flow_folder
from flowsession_agent.session.baseline import Baseline
from flowsession_agent.session.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

    from flowsession_agent.check.checker import Checker
    from flowsession_agent.edits.session import Edits
    from flowsession_agent.feeds.urls import Address
    from flowsession_agent.install.packages import Packages
    from flowsession_agent.install.venvs import Layer
    from flowsession_agent.install.worker import Result, Worker
    from flowsession_agent.server.order import Order
    from flowsession_agent.server.state import State
    from flowsession_agent.session.activity import Activity
    from flowsession_agent.session.children import Children
    from flowsession_agent.session.folder_watch import FolderWatch
    from flowsession_agent.settings import Home
    from flowsession_protocol import messages


KEPT_LIMIT = 200
"""Maximum number of remembered names of files that pushes moved aside."""


class Environment:
    """The session's folder and what is installed in it; one order at a time."""

    def __init__(
        self,
        *,
        home: Home,
        state: State,
        activity: Activity,
        children: Children,
        packages: Packages,
        checker: Checker,
        folder: Callable[[], FolderWatch],
    ) -> None:
        self._home, self._state, self._activity = home, state, activity
        self._children, self._packages, self._checker, self._folder = children, packages, checker, folder
        self._lock, self._record = threading.Lock(), Record(home.record)
        self._worker: Worker | None = None
        self._edits: Edits | None = None
        self._address: Address | None = None
        self.edits_address = ""  # the operator's address for a notice that edits are waiting

    def resume(self) -> None:
        """Take over what an earlier start left on the session's volume."""
        self._record.load()
        record, state = self._record, self._state
        state.flow_revision = record.flow_revision
        if record.venv != self._home.linked:
            return  # killed between switching layers and saving the record: what is installed is unknown and counts as nothing
        if record.install is not None:
            try:
                state.install = Install.remembered(record.install)
            except (KeyError, TypeError, ValueError):
                return  # not written by an agent
            state.packages_revision = record.packages_revision
            self._packages.installed(venv=record.venv, names=record.names)
            if record.has_flow:
                self._checker.begin()

    def apply(self, order: Order) -> None:
        """Do what `order` asks for and isn't done yet. Raises ApiError if retired, OSError if the flow folder doesn't fit."""
        self.edits_address = order.edits_address
        with self._lock:
            new_flow = order.flow_revision != self._state.flow_revision
            new_packages = self._wants_install(order)
            if not new_flow and not new_packages:
                return
            if self._state.retired:
                raise retired()
            with self._activity.work("environment"):
                if new_packages and self._worker is not None:
                    self._worker.stop()
                if new_flow:
                    self._replace_flow(order)
                if new_packages:
                    self._bring_packages(order)
                self._check()

    def edits(self) -> messages.Edits:
        """Return the object under `edits` in the protocol, without edits if no flow folder was pushed."""
        if not self._record.has_flow:
            return {"count": 0, "files": [], "bytes": 0, "revision": "", "offered": "", "restored": False}
        return self._all_edits().members()

    def edits_archive(self) -> messages.EditsArchive:
        """Return the members of `GET /v1/edits`. Raises ApiError."""
        if not self._record.has_flow:
            raise no_edits()
        return self._all_edits().answer()

    def unsaved_edits(self) -> str:
        """Return the revision of edits that nobody has dealt with; empty if all have been."""
        return self._all_edits().unsaved() if self._record.has_flow else ""

    def settle_edits(self, revision: str, *, saved: bool) -> None:
        """Note that the operator has dealt with the edits of this revision. Not work, so it is possible while the session is ending."""
        if self._record.has_flow:
            self._all_edits().settle(revision, saved=saved)

    def restore_edits(self, *, force: bool) -> dict[str, Any]:
        """Write the offered edits of an earlier session. Raises ApiError."""
        with self._activity.work("restore"), self._lock:
            if not self._record.has_flow:
                raise no_edits()
            with self._folder().own():
                restored = self._all_edits().restore(force=force)
            self._check()
            return restored

    def discard_edits(self) -> None:
        """Mark the present edits as not to be saved. Not work, so it is possible while the session is ending. Raises ApiError."""
        with self._lock:
            if not self._record.has_flow:
                raise no_edits()
            self._all_edits().discard()

    def install_words(self) -> messages.InstallProgress:
        """Return what the installer has printed so far, while one runs."""
        worker = self._worker
        return worker.words() if worker is not None and worker.alive else {"step": "", "lines": 0, "text": ""}

    def check_again(self) -> None:
        """Have the flow checked, because something other than its files has changed."""
        with self._lock:
            self._check()

    def stop(self) -> None:
        """End a running install, because the agent ends."""
        if self._worker is not None:
            self._worker.stop()

    def _check(self) -> None:
        """Have the flow checked, after the end of any running install."""
        if not self._record.has_flow:
            self._checker.forget()
        elif self._state.install.state == "Running":
            self._checker.expect()
        else:
            self._checker.begin()

    def _wants_install(self, order: Order) -> bool:
        """Return whether to install. A revision is tried once: again only on request, or after another one was ordered in between."""
        install = self._state.install
        if order.packages_revision == install.packages_revision:
            return order.retry and install.state in ("Failed", "TimedOut")
        return True

    def _replace_flow(self, order: Order) -> None:
        from flowsession_agent.edits import pushed

        record, edits, files = self._record, self._all_edits(), order.files or {}
        with edits.lock, self._folder().own():
            self._checker.notice(order.outside_modules)
            pushing = {name: of_content(content) for name, content in files.items()}
            baseline = Baseline(record.pushed, record.pushing)
            first = order.files is not None and not record.had_flow
            if first:
                edits.take(order)
            record.pushing = {**(record.pushing or {}), **pushing}
            record.save()  # before the first file is written: a kill in between must not turn pushed files into edits
            moved = flow_folder.replace(self._home.flow, files, baseline=baseline)
            record.kept = [*record.kept, *moved][-KEPT_LIMIT:]
            if first:
                edits.restore_at_once(order.flow_revision)
            record.pushed, record.pushing, record.flow_revision = pushing, None, order.flow_revision
            record.has_flow, record.had_flow = order.files is not None, record.had_flow or order.files is not None
            record.save()
            pushed.keep(self._home.pushed, files)

        def edit() -> None:
            self._state.flow_revision = order.flow_revision

        self._state.change(edit)
        for path in moved:
            print(
                f"flowsession agent: {path!r} holds what the session had where the environment changed a file", file=sys.stderr, flush=True
            )

    def _all_edits(self) -> Edits:
        """Return the edits. Created late: a session without a flow folder doesn't need them."""
        if self._edits is None:
            from flowsession_agent.edits.session import Edits

            self._edits = Edits(home=self._home, record=self._record)
        return self._edits

    def _bring_packages(self, order: Order) -> None:
        if order.packages_revision == self._record.packages_revision == self._state.packages_revision:
            self._back_to_installed()
        elif order.requirements is None:
            self._nothing_to_install(order)
        else:
            self._start_install(order)

    def _back_to_installed(self) -> None:
        """Show what is installed: the order went back to it while a newer revision was being installed, or had failed."""

        self._show(Install.remembered(self._record.install or {}))

    def _nothing_to_install(self, order: Order) -> None:
        earlier = self._home.linked
        self._commit(Install(state="Succeeded", packages_revision=order.packages_revision), layer=None, names=[], report={})
        if earlier and not (self._worker and self._worker.alive):
            from flowsession_agent.install import venvs

            venvs.remove_unused(self._home)

    def _start_install(self, order: Order) -> None:
        from flowsession_agent.feeds.urls import Address
        from flowsession_agent.install.worker import Worker

        self._address = self._address or Address()
        if order.installer.feed.token:
            from flowsession_agent.session.pid1 import protect

            protect()
        self._activity.begin("install")
        running = Install(state="Running", packages_revision=order.packages_revision)
        self._show(running)
        earlier = self._worker
        self._worker = Worker(home=self._home, order=order, address=self._address, children=self._children, done=self._finished)
        self._worker.start(running, after=earlier)

    def _finished(self, running: Install, result: Result) -> None:
        """Handle the end of an install, whatever its result. Called by the worker's thread."""
        from flowsession_agent.install import failures, venvs

        try:
            with self._lock:
                install, layer = result.install, result.layer
                current = self._state.install is running
                if current and install.state == "Succeeded":
                    try:
                        self._commit(install, layer=layer, names=result.names, report=result.report)
                    except OSError as error:
                        failure = failures.of_system(error)
                        install.state, install.code, install.message = "Failed", failure.code, failure.message
                if layer is not None and not (current and install.state == "Succeeded"):
                    venvs.remove(layer)
                if current and install.state != "Succeeded":
                    self._show(install)
                if current and self._record.has_flow:
                    self._checker.begin()
        finally:
            self._activity.end("install")
        if install.state == "Succeeded":
            venvs.remove_unused(self._home)  # no layer is made meanwhile: the next install waits for this thread
        print(f"flowsession agent: install {install.state} {install.code} {install.message}", file=sys.stderr, flush=True)

    def _show(self, install: Install) -> None:
        def edit() -> None:
            self._state.install = install

        self._state.change(edit)

    def _commit(self, install: Install, *, layer: Layer | None, names: list[str], report: dict[str, Any]) -> None:
        """Put an install into effect on disk, then show it. Raises OSError if there is no room; the earlier layer then stays in use."""
        record, state = self._record, self._state
        if layer is not None:
            from flowsession_agent.install import venvs

            venvs.switch(self._home, layer)
        elif self._home.linked:
            os.unlink(self._home.venv)
        record.packages_revision, record.venv, record.install = install.packages_revision, layer.name if layer else "", install.members()
        record.names = names
        record.save()
        self._packages.installed(venv=record.venv, names=names, report=report)

        def edit() -> None:
            state.install = install
            state.packages_revision = install.packages_revision

        state.change(edit)
