"""How much may be written about one object: a session's agent causes writes, and etcd and the API server are everybody's."""

from collections import OrderedDict
from dataclasses import dataclass, field


@dataclass
class Allowance:
    """A token bucket for each object, by uid. `burst` writes at once, then one every `seconds`."""

    burst: float
    seconds: float
    remembered: int = 4096
    """Objects; those that wrote longest ago are forgotten, and have their burst again."""
    _left: OrderedDict[str, tuple[float, float]] = field(default_factory=OrderedDict)
    """What is left of it, and when that was."""

    def wait(self, uid: str, now: float) -> float:
        """Take one write if there is one; else the seconds until there is."""
        left, at = self._left.get(uid, (self.burst, now))
        left = min(self.burst, left + max(0.0, now - at) / self.seconds)
        allowed = left >= 1.0
        self._left[uid] = (left - allowed, now)
        self._left.move_to_end(uid)
        while len(self._left) > self.remembered:
            self._left.popitem(last=False)
        return 0.0 if allowed else (1.0 - left) * self.seconds
