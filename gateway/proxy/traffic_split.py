"""How a model's requests are divided among its versions, as a rollout changes it."""

from collections.abc import Sequence
from typing import Final

from gateway.policy.canary.split import Split
from gateway.proxy.live_version import LiveVersion


class Mirror:
    """Copies of a share (0 to 1) of requests are sent to a version whose answers are thrown away."""

    __slots__ = ("share", "version")

    def __init__(self, version: LiveVersion, share: float) -> None:
        self.version = version
        self.share = share


class TrafficSplit:
    """How a model's requests are divided among its versions: by `split`, in which `only` is the one that gets all.

    Nothing changes it: a rollout puts another in its place. `standby` are the versions that may serve in another's
    stead, by default all in the split; `failing` is one of them whose latest requests all failed.
    """

    __slots__ = ("failing", "mirror", "only", "split", "standby")

    def __init__(
        self,
        split: Split[LiveVersion],
        standby: Sequence[LiveVersion] | None = None,
        *,
        failing: LiveVersion | None = None,
        mirror: Mirror | None = None,
    ) -> None:
        self.split: Final = split
        self.only: Final = split.draw(0.0) if split.is_single else None
        self.standby: Final = [version for version, _ in split.shares()] if standby is None else standby
        self.failing: Final = failing
        self.mirror: Final = mirror

    def __repr__(self) -> str:
        return f"<TrafficSplit {' '.join(f'{version.name} {share:.0%}' for version, share in self.split.shares())}>"

    def stand_in(self, version: LiveVersion) -> LiveVersion | None:
        """Return the version that serves requests of one which cannot, None where it can or no other does.

        One that fails every request does so only where there is nothing to lose.
        """
        if version.is_served:
            return None
        for other in self.standby:
            if other is not version and other.is_served and (other is not self.failing or version.is_lost):
                return other
        return None

    def reaches(self, version: LiveVersion) -> bool:
        """Whether new requests go to a version, by its share or in another's stead."""
        return any(each is version or self.stand_in(each) is version for each, _ in self.split.shares())
