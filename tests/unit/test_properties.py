"""What holds for every session, whatever happens in whatever order, checked by simulation."""

from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from flowsession.model.plan import Deliver, Follow, ListPackages
from unit.builders import condition
from unit.world import World, story

NOTHING = {"requirementsText": ""}
PANDAS = {"requirementsText": "pandas\n"}
NUMPY = {"requirementsText": "numpy\n"}
BROKEN = {"requirementsText": "pandas ==\n"}
OTHER_IMAGE = {"requirementsText": "pandas\n", "baseImage": "registry/python:3.12"}
FOLDER = {"requirementsText": "", "source": {"configMap": {"name": "flow"}}}
ENVIRONMENTS = st.sampled_from([NOTHING, PANDAS, NUMPY, BROKEN, OTHER_IMAGE, FOLDER])
STABLE_FAILURES = {
    "EnvironmentNotReady", "InstallFailed", "OutOfMemory", "SizeNotFound", "InstanceNotFound", "InstanceStopped", "IdentityNotFound",
    "IdentityNotAssignable",
}  # fmt: skip
ACTIONS = st.sampled_from(["Delete", "Suspend", "None"])
TIMEOUTS = st.sampled_from([5, 60, 90])
ON_CHANGE = st.sampled_from(["Install", "Wait"])
COMPUTES = st.sampled_from(
    [
        {},
        {"vmSize": "Standard_D2s_v5"},
        {"vmSize": "Standard_D4s_v5"},
        {"vmSize": "Standard_D3s_v5"},
        {"type": "Instance", "instanceRef": {"name": "box"}},
    ]
)
"""The third size does not exist."""
IDENTITIES = st.sampled_from(
    [{}, {"type": "Managed"}, {"type": "Managed", "serviceAccountName": "runner"}, {"type": "Managed", "serviceAccountName": "gone"}]
)
REQUESTS = st.sampled_from(["reset", "install", "resume", "keepAlive"])


class SessionLife(RuleBasedStateMachine):
    """Random events around one session; the operator may be killed between any two of them."""

    @initialize(environment=ENVIRONMENTS, timeout=st.sampled_from([5, 60]), action=ACTIONS, on_change=ON_CHANGE, started=st.booleans())
    def begin(self, environment, timeout, action, on_change, started):
        self.world = World(environment=environment, idle={"timeoutSeconds": timeout, "action": action}, onChange=on_change)
        for size in ("Standard_D2s_v5", "Standard_D4s_v5"):
            self.world.add_size(size)
        if started and environment is not BROKEN:
            self.world.settle(until_ready=True)

    # the operator

    @rule()
    def decide(self):
        self.world.reconcile()

    @rule()
    def decide_all_that_is_due(self):
        assert self.world.work() < 40, "the operator keeps itself busy"

    @rule(most=st.integers(1, 3))
    def hear(self, most):
        self.world.hear(most)

    @rule()
    def hear_everything(self):
        self.world.hear()

    @rule(seconds=st.sampled_from([0.0, 1.0, 6.0, 61.0]))
    def life_goes_on(self, seconds):
        """Everybody does what is due, and an answer may be late."""
        world = self.world
        world.hear()
        world.work()
        world.kubelet()
        world.answer_calls()
        world.clock.now += seconds
        world.hear()
        assert world.work() < 40

    @rule(seconds=st.sampled_from([0.0, 4.0, 6.0, 100.0]))
    def a_word_is_acted_on_late(self, seconds):
        world = self.world
        world.hear()
        world.clock.now = max(world.clock(), min(world.todo.due, world.clock() + 100))
        world.work()
        world.answer_calls()
        world.clock.now += seconds
        world.work()

    @precondition(lambda self: self.world.live_pods())
    @rule()
    def pod_takes_its_time_to_end(self):
        world = self.world
        world.delete_pod(world.live_pods()[0])
        for _ in range(3):
            world.hear()
            world.work()
            world.clock.now += 2.0

    @rule()
    def operator_is_killed(self):
        self.world.restart_operator()

    @rule()
    def twice_is_once(self):
        """Once a plan is carried out, another decision in the same world at the same moment writes nothing."""
        world = self.world
        world.hear()
        plan = world.reconcile()
        if plan is None or world.faulty:
            return
        world.hear()
        again = world.plan()
        begins_anew = plan.status is not None and "incarnation" in plan.status.status  # written before the next pod is created
        if again is not None and not plan.creates and not plan.deletes and not begins_anew:  # a pod that appeared or vanished is news
            assert not again.writes, (plan, again)
            assert not again.events

    # the user

    @rule(suspend=st.booleans())
    def suspend(self, suspend):
        self.world.change_session(suspend=suspend)

    @rule(action=ACTIONS, timeout=TIMEOUTS)
    def idle_changes(self, action, timeout):
        self.world.change_session(idle={"timeoutSeconds": timeout, "action": action})

    @rule(lifetime=st.sampled_from([0, 30, 400]))
    def lifetime_changes(self, lifetime):
        self.world.change_session(maxLifetimeSeconds=lifetime)

    @rule(on_change=ON_CHANGE)
    def on_change_changes(self, on_change):
        self.world.change_session(onChange=on_change)

    @rule(compute=COMPUTES)
    def compute_changes(self, compute):
        self.world.change_session(compute=compute)

    @rule(how=st.sampled_from([{"node": "worker-1"}, {"node": "worker-2"}, {"stopped": "User"}, {"stopped": "Idle"}, None]))
    def instance_changes(self, how):
        if how is None:
            self.world.remove_instance()
        else:
            self.world.set_instance(**how)

    @rule(identity=IDENTITIES)
    def identity_changes(self, identity):
        self.world.change_session(identity=identity)

    @rule(name=st.sampled_from(["default", "runner"]), assignable=st.booleans(), user=st.sampled_from(["", "alice@example.com"]))
    def service_account_changes(self, name, assignable, user):
        self.world.set_account(name, assignable=assignable, user=user)

    @rule()
    def service_account_vanishes(self):
        self.world.remove_account("runner")

    @rule(what=REQUESTS)
    def a_request(self, what):
        self.world.ask(what)

    @rule(what=REQUESTS, value=st.sampled_from(["true", "now", "2026-13-01", "\u200b"]))
    def junk(self, what, value):
        self.world.ask(what, value)

    @rule(what=st.sampled_from(["keepAlive", "reset", "install"]), seconds=st.sampled_from([0.0, 3.0, 6.0]))
    def a_request_in_the_middle_of_the_end(self, what, seconds):
        """It arrives between the agent's answer and the operator's acting on it."""
        world = self.world
        world.hear()
        world.clock.now = max(world.clock(), min(world.todo.due, world.clock() + 100))
        world.work()
        world.answer_calls()
        world.ask(what)
        world.clock.now += seconds
        world.work()

    # the cluster

    @rule(seconds=st.sampled_from([0.05, 0.5, 1.0, 3.0, 30.0, 61.0, 700.0]))
    def time_passes(self, seconds):
        self.world.clock.now += seconds

    @rule()
    def kubelet_works(self):
        self.world.kubelet()

    @precondition(lambda self: self.world.live_pods())
    @rule()
    def pod_is_lost(self):
        self.world.api.remove(self.world.live_pods()[0])

    @precondition(lambda self: self.world.live_pods())
    @rule()
    def pod_is_deleted(self):
        self.world.delete_pod(self.world.live_pods()[0])

    @precondition(lambda self: self.world.live_pods())
    @rule()
    def pod_fails(self):
        self.world.pod_fails(self.world.live_pods()[0])

    @precondition(lambda self: self.world.agent() is not None)
    @rule(how=st.sampled_from([("OOMKilled", 137), ("Error", 1)]))
    def container_dies(self, how):
        pod = next(p for p in self.world.api.pods if p["status"]["phase"] == "Running" and not p["metadata"].get("deletionTimestamp"))
        self.world.container_dies(pod, *how)

    @rule(said=st.sampled_from(["manifest unknown", "401 Unauthorized"]))
    def image_cannot_be_pulled(self, said):
        for pod in self.world.api.pods:
            if pod["status"] == {"phase": "Pending"}:
                self.world.pod_running(pod, image_problem="ErrImagePull", said=said)

    @rule(environment=ENVIRONMENTS)
    def environment_changes(self, environment):
        self.world.change_environment(**environment)

    @rule()
    def environment_vanishes(self):
        self.world.remove_environment()

    @rule()
    def somebody_else_writes_first(self):
        self.world.api.rivals = 1

    @rule()
    def server_does_not_answer(self):
        self.world.api.down = 1

    @rule(full=st.booleans())
    def quota(self, full):
        self.world.api.refused = {"Pod"} if full else set()

    # the agent

    @rule()
    def agent_answers(self):
        self.world.answer_calls()

    @precondition(lambda self: self.world.agent() is not None)
    @rule(ok=st.booleans())
    def install_ends(self, ok):
        self.world.agent().finish_install("" if ok else "NoMatchingDistribution")

    @precondition(lambda self: self.world.agent() is not None)
    @rule(busy=st.booleans())
    def people_work(self, busy):
        agent = self.world.agent()
        agent.work() if busy else agent.rest()

    @precondition(lambda self: self.world.agent() is not None)
    @rule(content=st.sampled_from(["one", "two", ""]))
    def a_file_is_edited(self, content):
        self.world.agent().edit(content)

    @precondition(lambda self: self.world.agent() is not None)
    @rule(dead=st.booleans())
    def agent_falls_silent(self, dead):
        self.world.agent().dead = dead

    @rule(hours=st.sampled_from([1, 5]))
    def nobody_answers_for_hours(self, hours):
        """For that many hours, calls fail now and then."""
        world = self.world
        agent = world.agent()
        if agent is None:
            return
        agent.dead = True
        for _ in range(6):
            world.hear()
            assert world.work() < 40
            world.answer_calls()
            world.clock.now += hours * 600

    # invariants

    @invariant()
    def at_most_one_pod(self):
        assert len(self.world.live_pods()) <= 1, self.world.live_pods()

    @invariant()
    def ended_only_on_a_fresh_word(self):
        for age, state, timeout in self.world.ends:
            assert state.retired
            assert 0 <= age <= 5.0
            assert state.idle_seconds >= timeout

    @invariant()
    def ended_without_a_word_only_after_hours_of_silence(self):
        for silence, timeout in self.world.failed_probes:
            assert silence >= max(3600, 3 * timeout)

    @invariant()
    def edits_are_not_lost(self):
        assert not self.world.lost_edits

    @invariant()
    def only_idleness_deletes_it(self):
        if self.world.api.session is None:
            assert self.world.ends or self.world.failed_probes
            assert self.world.spec["idle"].get("action", "Delete") == "Delete"
            assert not self.world.spec.get("suspend") or self.world.api.watch

    @invariant()
    def the_spec_is_the_users(self):
        session = self.world.api.session
        assert session is None or session["spec"] == self.world.spec

    @invariant()
    def who_suspended_it_is_said(self):
        status = self.world.status()
        suspended = status.get("suspended")
        assert suspended is None or suspended["by"] in {"User", "Idle", "Lifetime"}
        assert suspended or status.get("phase") not in {"Suspending", "Suspended"}

    @invariant()
    def no_condition_without_words(self):
        for found in self.world.status().get("conditions", ()):
            assert found["reason"]
            assert found["message"]

    def teardown(self):
        """When faults stop, everything settles: ready, suspended, ended, or failed for a reason that persists."""
        if not hasattr(self, "world"):
            return
        world = self.world
        world.api.rivals, world.api.down, world.api.refused = 0, 0, set()
        for pod in world.api.pods:
            for container in pod["status"].get("containerStatuses", ()):
                if "waiting" in container["state"]:
                    world.pod_running(pod)
        for agent in world.agents.values():
            agent.busy = agent.dead = False
        world.settle()
        if world.api.session is None:
            assert world.ends or world.failed_probes, "deleted without a word"
            return
        status, told = world.status(), list(story(world))
        reason = condition(status, "Ready")["reason"]
        if world.spec.get("suspend") or status.get("suspended"):
            assert (status["phase"], reason) == ("Suspended", "Suspended"), (status, told)
            assert world.api.pods == []
        else:
            assert world.is_ready() or reason in STABLE_FAILURES, (reason, told)
        if world.is_ready() or reason == "Suspended":
            assert {what: status.get("handledRequests", {}).get(what) for what in world.asked} == world.asked, told
        self.nothing_is_written()
        world.restart_operator()
        self.nothing_is_written()

    def nothing_is_written(self):
        world = self.world
        before = len(world.writes())
        world.todo.now = True
        world.work()
        assert world.writes()[before:] == [], "a settled session is written to"


TestSessionLife = SessionLife.TestCase


@given(environment=ENVIRONMENTS, order=st.permutations(range(4)))
def test_the_operator_killed_after_any_write_starts_no_second_pod(environment, order):
    """It is killed after each of the first writes in turn, having seen an arbitrary part of the watch."""
    assume("==" not in environment["requirementsText"])
    world = World(environment=environment, idle={"action": "None"})
    for step in order:
        world.hear(step)
        world.reconcile()
        world.restart_operator()
    world.settle()
    assert world.is_ready()
    assert world.writes().count("POST Pod") == 1


def test_an_undisturbed_start_takes_one_pod_and_few_writes():
    world = World(environment=PANDAS)
    world.settle()
    assert world.is_ready()
    assert world.writes().count("POST Pod") == 1
    assert world.writes().count("POST ConfigMap") == 1
    assert world.writes().count("PATCH ComputeSession") <= 3  # two to Ready, one for the list of packages


def test_a_full_quota_is_tried_ever_more_slowly_and_heals():
    world = World(environment=NOTHING)
    world.api.refused = {"Pod"}
    end = world.clock() + 3600
    while world.clock() < end:
        world.hear()
        world.work()
        world.clock.now = max(world.clock() + 0.01, min(world.todo.due, end))
    assert condition(world.status(), "Ready")["reason"] == "QuotaExceeded"
    assert world.writes().count("POST Pod") <= 22  # after 1 + 2 + 4 ... + 256 s, then every 300 s
    assert world.writes().count("PATCH ComputeSession") <= 2
    world.api.refused = set()
    world.settle()
    assert world.is_ready()


def test_an_operator_that_is_started_again_writes_nothing_and_asks_nobody():
    world = World(environment=PANDAS, idle={"timeoutSeconds": 3600})
    world.settle()
    world.clock.now += 100
    before = len(world.api.requests)
    world.restart_operator()
    world.settle()
    assert world.api.requests[before:] == []
    assert world.calls.log == []


def test_a_session_in_use_is_probed_once_per_timeout_and_ends_one_timeout_after_its_last_work():
    world = World(environment=NOTHING, idle={"timeoutSeconds": 60})
    world.settle()
    ready, agent = world.clock(), world.agent()
    world.clock.now = ready + 30
    agent.last_work = world.clock()  # unseen: a settled session has no open connection
    while world.api.session_deleted_at is None:
        world.clock.now = world.todo.due
        assert world.work() < 10
        world.answer_calls()
        assert world.work() < 10
        world.hear()
    assert 90 <= world.api.session_deleted_at - ready <= 91
    asked = [type(call).__name__ for call in world.calls.log if not isinstance(call, Deliver | Follow | ListPackages)]
    assert asked == ["Probe", "Probe", "Retire"], "at most two probes in each timeout"


def test_a_long_install_is_followed_not_polled():
    world = World(environment=PANDAS)
    for _ in range(30):
        world.hear()
        world.work()
        world.kubelet()
        world.answer_calls()
        world.clock.now += 0.2
    assert sum(isinstance(call, Follow) for call in world.calls.log) == 1
