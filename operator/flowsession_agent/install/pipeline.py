"""One install from end to end: plan, install into a new layer, verify it. The caller switches to the layer."""

from __future__ import annotations

import os
import sys

from flowsession_agent.feeds import urls
from flowsession_agent.feeds.errors import REFUSED, FeedError
from flowsession_agent.install import base as image
from flowsession_agent.install import ends, failures, kept, requirement_lines, tools, venvs
from flowsession_agent.install.ends import InstallError
from flowsession_agent.install.failures import Failure
from flowsession_agent.install.overlaps import Overlaps
from flowsession_agent.install.package_cache import PackageCache
from flowsession_agent.install.proof import Broken, prove
from flowsession_agent.install.rewriting import Rewriting
from flowsession_agent.session import cgroup, flow_folder
from flowsession_protocol import limits
from flowsession_protocol.masking import masked

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

    from flowsession_agent.feeds.session import PrivateFeeds
    from flowsession_agent.feeds.urls import Address
    from flowsession_agent.install.venvs import Layer
    from flowsession_agent.server.order import Order
    from flowsession_agent.session.job import Job, Outcome
    from flowsession_agent.settings import Home

UNSOLVED = ("ConflictingRequirements", "NoMatchingDistribution")


class Pipeline:
    """The steps of one install, and their results."""

    def __init__(self, *, home: Home, order: Order, address: Address, start_job: Callable[..., Job]) -> None:
        self._home = home
        self._address = address
        self._order = order
        self._settings = order.installer
        self._start_job = start_job
        self._base: image.Base
        self._lines: list[requirement_lines.Line] = []
        self._job: Job
        self._file = ""
        self._feeds: PrivateFeeds | None = None
        self._rewriting: Rewriting | None = None
        self._constraints: list[str] = []
        self._needs = ""  # the file of constraints by the image's prompt flow, which are dropped if they leave no solution
        self.tool = ""
        self.installer_command = 0
        """Number of the job's command that is the running installer, from 1; 0 if none. Output of others, such as proofs, isn't shown."""
        self.outcome: Outcome | None = None
        self.report: dict[str, Any] = {}
        self.changed = 0
        self.warnings: list[str] = []
        self._killed_before = cgroup.killed_for_memory()

    def run(self) -> Layer | None:
        """Install, and return the finished layer, or None if the image's packages are enough. Raises InstallError or OSError."""
        try:
            return self._install()
        finally:
            if self._feeds is not None:
                self.warnings += self._feeds.warnings
                self._feeds.close()
            if self._rewriting is not None:
                self.warnings[:0] = self._rewriting.warnings
                self._rewriting.close()
            self._settings.feed.token = ""

    def masked(self, text: str) -> str:
        """Return a tool's output without credentials and with the feeds' own URLs, cut to what a response may hold."""
        text = self._feeds.restored(text) if self._feeds is not None else flow_folder.without_copies(text)
        return masked(text)[-limits.TAIL :]

    def _install(self) -> Layer | None:
        self._prepare()
        if urls.asked_for(self._environ, self._lines):
            self._open_feeds()
        uv = image.find_uv() if self._settings.tool != "Pip" else ""
        if self._settings.tool == "Uv" and not uv:
            raise InstallError(Failure("Other", "installer.tool is Uv, but the image has no uv: choose Auto or Pip, or another image."))
        if not self._settings.cache:
            return self._by_some_tool(uv)
        cache, direct = PackageCache(self._settings.cache), self._environ
        cached = cache.environ(direct)
        if cached is None:
            return self._by_some_tool(uv)
        why = cache.missing()
        if not why:
            self._use(cached)
            try:
                return self._by_some_tool(uv)
            except InstallError as error:
                why = "" if self._job.stopped else cache.blame(error.failure.code, self.outcome)
                if not why:
                    raise
            self._use(direct)
        self.warnings = [f"the package cache at {cache.address} was not used: {why}"]
        return self._by_some_tool(uv)

    def _use(self, environ: dict[str, str]) -> None:
        self._environ = environ
        self._job = self._start_job(environ=environ, cwd=self._home.flow)

    def _by_some_tool(self, uv: str) -> Layer | None:
        if self._needs:
            try:
                return self._by_uv_or_pip(uv)
            except InstallError as error:
                if error.failure.code not in UNSOLVED:
                    raise
            self._constraints.remove(self._needs)
            self._needs = ""
        return self._by_uv_or_pip(uv)

    def _by_uv_or_pip(self, uv: str) -> Layer | None:
        if uv and (self._settings.tool == "Uv" or not tools.needs_pip(self._lines, self._environ)):
            plan = self._plan(uv)
            if plan is not None:
                return self._install_plan(uv, plan)
        return self._install_by_pip()

    def _prepare(self) -> None:
        home, requirements = self._home, self._order.requirements
        assert requirements is not None
        home.make()
        self._base = image.probe(self._start_job(environ=dict(os.environ), cwd=home.root))
        self._environ = tools.environ(os.environ, home=home, settings=self._settings, image_config=tools.image_config(self._base))
        self._job = self._start_job(environ=self._environ, cwd=home.flow)
        self._rewriting = Rewriting(requirements, home=home, environ=self._environ, base=self._base)
        self._file, self._lines = self._rewriting.file, self._rewriting.lines
        if self._base.promptflow:
            self._constrain("constraints.txt", [f"{name}=={version}" for name, version in sorted(self._base.promptflow.items())])
            if not any(line.hashes for line in self._lines):
                self._needs = self._constrain("needs.txt", kept.needs(self._base, self._lines))

    def _constrain(self, name: str, lines: list[str]) -> str:
        """Write a file of constraints; return its path."""
        path = os.path.join(self._home.tmp, name)
        _write(path, lines)
        self._constraints.append(path)
        return path

    def _open_feeds(self) -> None:
        """Let the tools reach private feeds through the gate."""
        from flowsession_agent.feeds.session import PrivateFeeds

        requirements, rewriting = self._order.requirements, self._rewriting
        assert requirements is not None and rewriting is not None, "they were prepared"
        try:
            self._feeds = PrivateFeeds(address=self._address, settings=self._settings, environ=self._environ, root=rewriting.root)
            self._environ = self._feeds.environ()
            self._file = self._feeds.requirements(self._file)
        except FeedError as error:
            raise InstallError(error.failure) from None
        self._job = self._start_job(environ=self._environ, cwd=self._home.flow)
        self._lines = requirement_lines.read(self._file, root=rewriting.root, shown=requirements.shown)

    def _plan(self, uv: str) -> list[str] | None:
        """Return the requirements that uv would add to the image, or None if pip is to decide."""
        self.tool = "uv"
        command = tools.uv_plan(
            uv,
            sys.executable,
            file=self._file,
            constraints=self._constraints,
            lines=self._lines,
            only_binary=self._settings.only_binary,
        )
        outcome = self._run(command)
        if outcome.exit_code == 0:
            return tools.planned(outcome.stdout + outcome.stderr, self._lines)
        failure = self._classify(outcome)
        if failure.code == REFUSED:
            raise InstallError(failure)
        asks_pip = outcome.exit_code == 2 or tools.hints_at_prereleases(outcome.stderr)
        only_index = not self._settings.extra_index_urls and not any(line.values("--extra-index-url") for line in self._lines)
        if failure.code == "IndexUnreachable" and only_index:
            asks_pip = False  # pip would only wait and fail again
        if self._settings.tool == "Auto" and asks_pip and self._base.has_pip:
            if failure.code == "IndexUnreachable":
                self._retry_without_index(failure)
            return None
        raise InstallError(failure)

    def _retry_without_index(self, failure: Failure) -> None:
        """Let pip install from the other indexes, with one retry: uv has already waited for this one, and pip would for each package."""
        self.warnings.append(f"{failure.message.partition(': check ')[0]}: packages come from the other indexes")
        self._use({"PIP_RETRIES": "1", **self._environ})

    def _install_plan(self, uv: str, plan: list[str]) -> Layer | None:
        if not plan:
            return None
        file = os.path.join(self._home.tmp, "plan.txt")
        _write(file, tools.carried_options(self._lines, folder=os.path.dirname(self._file)) + plan)
        hashed = any(line.hashes for line in self._lines)
        return self._into_layer(lambda layer: tools.uv_install(uv, layer, plan=file, only_binary=self._settings.only_binary, hashed=hashed))

    def _install_by_pip(self) -> Layer:
        self.tool = "pip"
        if not self._base.has_pip:
            if image.find_uv():
                lacks = "has no pip, which these requirements or installer.tool ask for: use an image with pip, or only what uv installs"
            else:
                lacks = "has neither pip nor uv, so nothing can be installed: use an image with pip"
            raise InstallError(Failure("Other", f"{sys.executable} of the image {lacks}."))
        return self._into_layer(
            lambda layer: tools.pip_install(layer, file=self._file, constraints=self._constraints, only_binary=self._settings.only_binary)
        )

    def _into_layer(self, command: Callable[[Layer], list[str]]) -> Layer:
        layer = venvs.make(self._home, self._base)
        try:
            outcome = self._run(command(layer))
            if outcome.exit_code != 0:
                raise InstallError(self._classify(outcome))
            self.changed = layer.count()
            self.warnings += Overlaps(layer, self._base.sites).bring()
            self._prove(layer)
            venvs.add_scripts(layer, self._base)
        except BaseException:
            venvs.remove(layer)
            raise
        return layer

    def _prove(self, layer: Layer) -> None:
        def run(command: list[str]) -> Outcome:
            self._give_up_if_over(outcome := self._job.run(command))
            return outcome

        try:
            proof = prove(layer, self._lines, run=run)
        except Broken as error:
            self.outcome = error.outcome or self.outcome
            raise InstallError(error.failure) from None
        self.report = proof
        # Warnings and not a failure, as with pip.
        self.warnings += [f"the packages don't fit together: {problem}" for problem in proof["problems"]]

    @property
    def names(self) -> list[str]:
        """The distributions that the requirements name."""
        return sorted({line.name for line in self._lines if line.name})

    def _run(self, command: list[str]) -> Outcome:
        self.installer_command = self._job.commands + 1
        try:
            self.outcome = self._job.run(command)
        finally:
            self.installer_command = 0
        self._give_up_if_over(self.outcome)
        fatal = self._feeds.fatal() if self._feeds is not None else None
        if fatal is not None:
            raise InstallError(fatal)
        return self.outcome

    def _give_up_if_over(self, outcome: Outcome) -> None:
        ends.raise_if_interrupted(outcome, seconds=self._settings.timeout_seconds, tool=self.tool)

    def _classify(self, outcome: Outcome) -> Failure:
        if cgroup.killed_for_memory() > self._killed_before:  # a process of a build: the tool reports only that the build failed
            return failures.no_memory()
        failure = failures.classify(
            outcome.stdout + "\n" + outcome.stderr, self._lines, promptflow=self._base.promptflow, only_binary=self._settings.only_binary
        )
        if failure.code == "ConflictingRequirements" and self._rewriting is not None:
            failure.message += self._rewriting.note
        return self._feeds.explained(failure) if self._feeds is not None else failure


def _write(path: str, lines: list[str]) -> None:
    with open(path, "w", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in lines)
