"""Which size a session gets: by its name, or by quota, nodes and price."""

import itertools
from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowsession.api.environment import MinimumCompute
from flowsession.model.sizes import Taint
from flowsession.model.views import Refusal
from flowsession.reconcile.session.vm_size import choose
from flowsession.reconcile.size.choice import NoSize
from unit.builders import NOW, decide, session_snapshot, session_spec, status_after, verdict
from unit.sizing import D2, D4, offer, pool, view

E2 = "Standard_E2s_v5"


def snapshot(*offers, quotas=(), named="", minimum=None, refusal=None):
    return session_snapshot(
        spec=session_spec(compute={"vmSize": named}),
        offers=tuple(sorted(offers, key=lambda each: each.name)),
        quotas=quotas,
        minimum_compute=MinimumCompute.model_validate(minimum) if minimum else None,
        refusal=refusal,
    )


def chosen(found):
    assert not isinstance(found, NoSize), found
    return found.spec.azure_name if found else None


def priced(name, price, *pools, **fields):
    return offer(name, *pools, pricePerHour=price, **fields)


NODES = pool({"pool": "a"})


# -- named


@pytest.mark.parametrize("name", [D2, "standard-d2s-v5", "standard_d2s_v5", "STANDARD_D2S_V5"])
def test_a_size_is_named_as_azure_does_or_by_its_object(name):
    assert chosen(choose(snapshot(offer(D2, autoSelect=False), offer(D4), named=name), NOW)) == D2


def test_the_environments_minimum_is_for_the_choice_not_for_who_names_a_size():
    assert chosen(choose(snapshot(offer(D2), named=D2, minimum={"cpu": "64"}), NOW)) == D2


@pytest.mark.parametrize(
    ("named", "offers", "says"),
    [
        ("Standard_D2s_v4", (offer(D2), offer(D4), offer("Standard_M128ms")), "such as Standard_D2s_v5, Standard_D4s_v5"),
        ("d2", (offer(D2), offer("Standard_M128ms")), "name one that is there, such as"),
        ("Standard_B2s", (offer(D2),), "below the D series"),
        ("standard-a1-v2", (offer(D2),), "below the D series"),
        ("Basic_A0", (offer(D2),), "below the D series"),
        (D2, (), "no VMSize is installed in this cluster: leave spec.compute.vmSize out"),
    ],
)
def test_an_unknown_size_is_refused_with_the_nearest_ones(named, offers, says):
    found = choose(snapshot(*offers, named=named), NOW)
    assert isinstance(found, NoSize)
    assert found.reason == "SizeNotFound"
    assert says in found.message


@pytest.mark.parametrize("name", ["Standard_DC4s_v2", "Standard_NC4as_T4_v3", "Standard_EC2as_v5", "Standard_F2s_v2"])
def test_a_b_or_c_inside_of_a_name_is_no_small_series(name):
    assert "below" not in choose(snapshot(offer(D2), named=name), NOW).message


# -- chosen


def test_without_any_vmsize_the_charts_defaults_hold():
    assert choose(snapshot(), NOW) is None
    plan = decide(session_snapshot())
    assert plan.creates[-1].manifest["spec"]["containers"][0]["resources"]["requests"] == {
        "cpu": "100m",
        "memory": "512Mi",
        "ephemeral-storage": "0",
    }


DISK = {"cpu": "2", "memory": "8Gi", "ephemeral-storage": "75Gi"}


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (priced(D4, "0.192", NODES), priced(D2, "0.096")),
        (priced(D2, "0.096"), priced(D4, "0.192")),
        (priced(D4, "10"), offer(D2)),
        (priced(D4, "0.1", capacity=DISK), priced(D2, "0.1")),
        (priced(D2, "0.10"), priced(D4, "0.1")),
        (offer(D2), offer(D4)),
        (priced(D4, "0.192", NODES), priced(D2, "0.096", pool(taints=(Taint("node.kubernetes.io/unschedulable", "", "NoSchedule"),)))),
    ],
    ids=["nodes", "price", "a known price", "disk", "name, prices equal", "name", "usable nodes"],
)
def test_the_order(first, second):
    for offers in itertools.permutations([first, second]):
        assert chosen(choose(snapshot(*offers), NOW)) == first.spec.azure_name


def test_only_sizes_with_auto_select_are_chosen():
    assert chosen(choose(snapshot(offer(D2, autoSelect=False), offer(D4)), NOW)) == D4
    found = choose(snapshot(offer(D2, autoSelect=False)), NOW)
    assert (found.reason, D2 in found.message) == ("NoSizeFits", True)


def test_what_a_session_is_guaranteed_must_be_the_environments_minimum():
    small, big = priced(D2, "0.1", pool(cpu="1900m", memory="6Gi"), sessionsPerNode=2), priced(D4, "0.2", pool(cpu="3800m", memory="13Gi"))
    for minimum, name in [({"cpu": "950m"}, D2), ({"cpu": "951m"}, D4), ({"memory": "3Gi"}, D2), ({"cpu": "500m", "memory": "4Gi"}, D4)]:
        assert chosen(choose(snapshot(small, big, minimum=minimum), NOW)) == name
    found = choose(snapshot(small, big, minimum={"cpu": "8", "memory": "1Gi"}), NOW)
    assert found.reason == "NoSizeFits"
    assert "cpu 8, memory 1Gi" in found.message
    assert "cpu 3800m, memory 13Gi" in found.message


# -- quota


def of_class(name, size, **hard):
    return view(name, expressions=[{"scopeName": "PriorityClass", "operator": "In", "values": [size]}], **hard)


def classed(name, price, **fields):
    return priced(name, price, NODES, priorityClassName=f"flowsession-{name}", **fields)


def test_a_size_whose_quota_is_used_up_gives_way_to_the_next():
    offers = (classed(D2, "0.1"), classed(D4, "0.2"))
    assert chosen(choose(snapshot(*offers, quotas=(of_class("d2", f"flowsession-{D2}", pods="0"),)), NOW)) == D4


def test_with_no_quota_for_any_size_each_is_told_with_what_it_lacks():
    quotas = (of_class("d2", f"flowsession-{D2}", pods="0"), of_class("d4", f"flowsession-{D4}", requests__cpu="1"))
    found = choose(snapshot(classed(D2, "0.1"), classed(D4, "0.2"), quotas=quotas), NOW)
    assert found.reason == "QuotaExceeded"
    assert "Standard_D2s_v5: quota 'd2' has 0 of 0 pods left, a session needs 1" in found.message
    assert "Standard_D4s_v5: quota 'd4' has 1 of 1 requests.cpu left, a session needs 1900m" in found.message
    assert found.look_again_at is None, "quotas are watched"


@pytest.mark.parametrize("named", ["", D2])
def test_a_quota_that_is_less_than_one_session_needs_is_not_told_to_end_sessions(named):
    """A session's limit is the whole node's memory, 6Gi here, whatever its share is."""
    size = offer(D2, pool(cpu="1900m", memory="6Gi"), sessionsPerNode=4)
    found = choose(snapshot(size, quotas=(view(limits__memory="4Gi"), view("other", limits__memory="1Gi")), named=named), NOW)
    assert "end sessions" not in found.message
    assert "ending others does not help: have the quota raised, or limit requests.memory instead" in found.message
    assert found.message.endswith(", or name another size") == bool(named)


def test_what_will_never_fit_is_named_before_what_is_used_up():
    size = offer(D2, pool(cpu="1900m", memory="6Gi"))
    found = choose(snapshot(size, quotas=(view(used={"pods": "3"}, pods="3", limits__memory="4Gi"),)), NOW)
    assert "quota 'team' has 4Gi of 4Gi limits.memory left, a session needs 6Gi" in found.message


def test_while_one_size_of_several_has_a_quota_that_is_only_used_up_ending_sessions_helps():
    quotas = (of_class("d2", f"flowsession-{D2}", pods="1"), of_class("d4", f"flowsession-{D4}", requests__cpu="1"))
    full = replace(quotas[0], used={"pods": Fraction(1)})
    found = choose(snapshot(classed(D2, "0.1"), classed(D4, "0.2"), quotas=(full, quotas[1])), NOW)
    assert "end sessions, or have the quota raised" in found.message


def test_a_named_size_without_quota_is_not_replaced_by_another():
    found = choose(snapshot(offer(D2), offer(D4), quotas=(view(pods="0"),), named=D2), NOW)
    assert found.reason == "QuotaExceeded"
    assert "name another size" in found.message


def test_the_session_says_so_and_starts_when_there_is_room():
    full = snapshot(offer(D2), quotas=(view(pods="3", used={"pods": "3"}),))
    status = status_after(full)
    assert verdict(status, "ComputeAllocated") == ("False", "QuotaExceeded")
    assert status["phase"] == "Pending"
    assert not decide(full).creates
    again = replace(full, status=status, quotas=(view(pods="3", used={"pods": "2"}),))
    assert [create.manifest["kind"] for create in decide(again).creates] == ["Pod"]


def test_what_the_api_server_refuses_is_followed_by_the_next_candidate():
    refusal = Refusal("QuotaExceeded", "exceeded quota: x", NOW - 0.5, 1, {"standard-d2s-v5": "exceeded quota: x"})
    offers = (priced(D2, "0.1"), priced(D4, "0.2"))
    assert chosen(choose(snapshot(*offers, refusal=refusal), NOW)) == D4
    both = replace(refusal, sizes={"standard-d2s-v5": "exceeded quota: x", "standard-d4s-v5": "exceeded quota: y"})
    found = choose(snapshot(*offers, refusal=both), NOW)
    assert (found.reason, found.look_again_at) == ("QuotaExceeded", NOW + 0.5)
    assert "exceeded quota: y" in found.message
    assert chosen(choose(snapshot(*offers, refusal=both), NOW + 0.5)) == D2, "after the pause all are tried again"


def test_another_refusal_holds_for_all_sizes():
    refusal = Refusal("PodRefused", "no PriorityClass with name x was found", NOW, 1, {"standard-d2s-v5": "x"})
    found = choose(snapshot(offer(D2), offer(D4), refusal=refusal), NOW)
    assert (found.reason, found.message) == ("PodRefused", "no PriorityClass with name x was found")


# -- many


def test_two_hundred_sizes_without_quota_make_a_message_that_can_be_read():
    offers = [offer(f"Standard_D{number}s_v5") for number in range(1, 201)]
    found = choose(snapshot(*offers, quotas=(view(pods="0"),)), NOW)
    assert found.message.count("quota 'team'") == 8
    assert "and 192 more sizes" in found.message


SIZES = st.lists(
    st.tuples(st.sampled_from([None, "0.1", "0.2", "0.20", "3"]), st.booleans(), st.booleans(), st.integers(0, 2), st.integers(1, 4)),
    min_size=1,
    max_size=6,
)


@given(SIZES, st.lists(st.tuples(st.integers(0, 5), st.integers(0, 4000)), max_size=4), st.sampled_from([None, "400m", "1", "1900m", "3"]))
def test_the_choice_is_the_best_of_those_that_may_be_had(rows, quotas, minimum):
    """Oracle: judge every size by plain arithmetic, and find the best by comparing all pairs."""
    offers, facts = [], {}
    for number, (price, nodes, auto, disk, share) in enumerate(rows):
        name = f"Standard_D{number}s_v5"
        capacity = {"cpu": "2", "memory": "8Gi", **({"ephemeral-storage": f"{disk}Gi"} if disk else {})}
        fields = {"autoSelect": auto, "sessionsPerNode": share, "capacity": capacity, "priorityClassName": f"c{number}"}
        offers.append(
            offer(
                name,
                *([pool({"n": name})] if nodes else []),
                nodeSelector={"n": name},
                **({"pricePerHour": price} if price else {}),
                **fields,
            )
        )
        milli = int(1900 / share)  # 2 cores less what AKS reserves, or what the node can give
        room = all(milli <= left for which, left in quotas if which == number)
        enough = minimum is None or milli >= {"400m": 400, "1": 1000, "1900m": 1900, "3": 3000}[minimum]
        facts[name] = (auto and room and enough, (not nodes, float(price) if price else float("inf"), -disk, name))
    views = tuple(of_class(f"q{n}", f"c{which}", requests__cpu=f"{left}m") for n, (which, left) in enumerate(quotas))
    found = choose(snapshot(*offers, quotas=views, minimum={"cpu": minimum} if minimum else None), NOW)
    allowed = {name: rank for name, (may, rank) in facts.items() if may}
    if isinstance(found, NoSize):
        assert not allowed
        assert found.reason in ("QuotaExceeded", "NoSizeFits")
    else:
        name = found.spec.azure_name
        assert name in allowed
        assert all(allowed[name] <= rank for rank in allowed.values())
        assert found.requests["cpu"] == Fraction(int(1900 / found.spec.sessions_per_node), 1000)
