"""Token buckets: how much one object or sender may cause, since etcd, the API server and the operator are everybody's."""

from collections import OrderedDict
from dataclasses import dataclass, field


@dataclass
class Bucket:
    """`burst` tokens at once, then one every `seconds`. A clock that is set back takes none away."""

    burst: float
    seconds: float
    left: float
    at: float
    """When the tokens were counted last."""

    def refilled(self, now: float) -> float:
        """Return how many tokens are there now."""
        self.left = min(self.burst, self.left + max(0.0, now - self.at) / self.seconds)
        self.at = now
        return self.left

    def take(self, now: float) -> bool:
        """Take a token; return whether there was one."""
        if self.refilled(now) < 1.0:
            return False
        self.left -= 1.0
        return True


@dataclass
class Allowance:
    """A token bucket for each object, by uid or another name."""

    burst: float
    seconds: float
    remembered: int = 4096
    """Objects; those that were asked for longest ago are forgotten, and have their burst again."""
    _buckets: OrderedDict[str, Bucket] = field(default_factory=OrderedDict)

    def of(self, name: str, now: float) -> Bucket:
        """Return its bucket."""
        bucket = self._buckets.get(name)
        if bucket is None:
            bucket = self._buckets[name] = Bucket(self.burst, self.seconds, self.burst, now)
            if len(self._buckets) > self.remembered:
                self._buckets.popitem(last=False)
        else:
            self._buckets.move_to_end(name)
        return bucket

    def __len__(self) -> int:
        """Return how many are remembered."""
        return len(self._buckets)

    def wait(self, name: str, now: float) -> float:
        """Take a token if there is one; else return the seconds until there is."""
        bucket = self.of(name, now)
        return 0.0 if bucket.take(now) else (1.0 - bucket.left) * self.seconds
