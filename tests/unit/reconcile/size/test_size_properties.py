"""Invariants of sessions with VM sizes: the simulation of test_properties, with changing sizes, quotas and requested sizes."""

from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule

from unit.builders import NAMESPACE
from unit.sizing import D2, D4
from unit.test_properties import SessionLife

LABEL = "flowsession.dev/vm-size"
UNKNOWN = "Standard_D9s_v5"


class SizedSessionLife(SessionLife):
    """Sizes come and go, a quota fills up and frees up, and the user requests another size."""

    @rule(name=st.sampled_from([D2, D4]), price=st.sampled_from(["0.1", "0.2", "0.3"]))
    def size_comes_or_changes(self, name, price):
        self.remove("VMSize", "", self.named(name))
        self.put_size(name, price)

    @rule(name=st.sampled_from([D2, D4]))
    def size_goes(self, name):
        self.remove("VMSize", "", self.named(name))

    @rule(name=st.sampled_from(["", D2, D4, "standard-d2s-v5", UNKNOWN]))
    def another_size_is_wished_for(self, name):
        self.world.change_session(compute={"vmSize": name})

    @rule(hard=st.sampled_from(["0", "1", "9"]), used=st.sampled_from(["0", "1"]))
    def quota_changes(self, hard, used):
        self.remove("ResourceQuota", NAMESPACE, "q")
        status = {"hard": {"pods": hard}, "used": {"pods": used}}
        self.world.api.put({"kind": "ResourceQuota", "metadata": {"name": "q", "namespace": NAMESPACE}, "spec": {}, "status": status})

    def put_size(self, name, price):
        meta = {"name": self.named(name), "namespace": "", "generation": 1}
        spec = {"azureName": name, "capacity": {"cpu": "2", "memory": "8Gi"}, "pricePerHour": price}
        self.world.api.put({"kind": "VMSize", "metadata": meta, "spec": spec})

    def remove(self, kind, namespace, name):
        body = self.world.api.objects.get((kind, namespace, name))
        if body is not None:
            self.world.api.remove(body)

    @invariant()
    def the_status_tells_the_size_of_the_pod_that_it_names(self):
        status = self.world.status()
        for pod in self.world.api.pods:
            if pod["metadata"]["name"] == status.get("podName"):
                assert status["vmSize"] == pod["metadata"]["labels"].get(LABEL, "default")

    def teardown(self):
        """Provide both sizes and enough quota, then check that the session gets the requested size."""
        if not hasattr(self, "world"):
            return
        self.remove("ResourceQuota", NAMESPACE, "q")
        for name in (D2, D4):
            self.size_goes(name)
            self.put_size(name, "0.1")
        if self.world.spec.get("compute") == {"vmSize": UNKNOWN}:
            self.world.change_session(compute={"vmSize": D4})
        self.world.todo.now = True  # a size's new price shows at the next decision, and causes none
        super().teardown()
        wished = (self.world.spec.get("compute") or {}).get("vmSize", "")
        if self.world.api.session is not None and self.world.is_ready() and self.named(wished) in (self.named(D2), self.named(D4)):
            (pod,) = self.world.live_pods()
            assert self.named(pod["metadata"]["labels"].get(LABEL, "")) == self.named(wished)

    @staticmethod
    def named(size):
        return size.lower().replace("_", "-")


TestSizedSessionLife = SizedSessionLife.TestCase
