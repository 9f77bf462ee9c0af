"""Token buckets: limits on the load from one object or sender, since all share etcd, the API server and the operator."""

from collections import OrderedDict
from dataclasses import dataclass, field


@dataclass
class Bucket:
    """`burst` tokens at once, then one every `seconds`. A clock that is set back removes none."""

    burst: float
    seconds: float
    left: float
    at: float
    """When the tokens were last counted."""

    def refilled(self, now: float) -> float:
        """Return how many tokens are available now."""
        self.left = min(self.burst, self.left + max(0.0, now - self.at) / self.seconds)
        self.at = now
        return self.left

    def take(self, now: float) -> bool:
        """Take a token; return whether one was available."""
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
    """Maximum number of objects; the least recently used are forgotten and get their burst again."""
    _buckets: OrderedDict[str, Bucket] = field(default_factory=OrderedDict)

    def of(self, name: str, now: float) -> Bucket:
        """Return the bucket of an object."""
        bucket = self._buckets.get(name)
        if bucket is None:
            bucket = self._buckets[name] = Bucket(self.burst, self.seconds, self.burst, now)
            if len(self._buckets) > self.remembered:
                self._buckets.popitem(last=False)
        else:
            self._buckets.move_to_end(name)
        return bucket

    def __len__(self) -> int:
        """Return how many objects are remembered."""
        return len(self._buckets)

    def wait(self, name: str, now: float) -> float:
        """Take a token and return 0, or return the seconds until one is available."""
        bucket = self.of(name, now)
        return 0.0 if bucket.take(now) else (1.0 - bucket.left) * self.seconds
