"""The slots of one backend: how many requests, and how many tokens of theirs, it holds and may hold."""

from gateway.claim import SMALLEST, Claim, SlotRules
from gateway.policy.routing.limit_evidence import UNLIMITED, LimitEvidence
from gateway.shared.slots import SharedSlots


class Slots:
    """How many requests one backend has `in_flight`, and may have.

    `limit` bounds them; `kv_capacity`, where it is known, bounds the tokens `kv` that prompts and answers may come to.
    `rules` are admission's for free slots, None before there are any; `evidence` is what the limit is judged by.
    A lease takes a slot and gives it back. Where several processes share the limit by `shared`, `in_flight` and `kv`
    are those of all of them as of the last look.
    """

    __slots__ = ("evidence", "in_flight", "kv", "kv_capacity", "limit", "rules", "shared")

    def __init__(self) -> None:
        self.in_flight = self.kv = 0
        self.shared: SharedSlots | None = None
        self.limit = UNLIMITED
        self.kv_capacity = UNLIMITED
        self.rules: SlotRules | None = None
        self.evidence = LimitEvidence()

    def __repr__(self) -> str:
        return f"<Slots {self.in_flight} of {self.limit if self.limit < UNLIMITED else 'any number'} in use>"

    @property
    def has_free(self) -> bool:
        """Whether the limit leaves a slot free, whoever may have it."""
        return self.in_flight < self.limit

    @property
    def spare(self) -> int:
        """How many slots the limit leaves free."""
        return max(0, self.limit - self.in_flight)

    def has_slot(self, claim: Claim = SMALLEST) -> bool:
        """Whether one more request fits, by number, by tokens, and by the rules of admission."""
        # As `fits`, without its call: every request asks this of every backend.
        in_flight, rules = self.in_flight, self.rules
        if in_flight >= self.limit or (in_flight and self.kv + claim.kv > self.kv_capacity):
            return False
        return rules is None or not rules.is_strict or rules.allows(claim, in_flight, self.limit)

    def fits(self, kv: int) -> bool:
        """Whether so many tokens fit; an empty backend takes any."""
        return self.kv + kv <= self.kv_capacity or not self.in_flight

    @property
    def own(self) -> int:
        """The requests of this process, of those of all processes."""
        return self.in_flight if self.shared is None else self.shared.own

    @property
    def own_kv(self) -> int:
        """The tokens that this process has, of those of all processes."""
        return self.kv if self.shared is None else self.shared.own_kv

    def look(self) -> None:
        """See what other processes have, where there are any."""
        shared = self.shared
        if shared is not None:
            shared.look()
            self.in_flight, self.kv = shared.in_flight, shared.kv

    def part(self) -> None:
        """Share them no more, once this process has none: what others have counts no longer here."""
        self.shared = None
        self.in_flight = self.kv = 0

    def secure(self, claim: Claim, now: float) -> bool:
        """Get a slot from among those that processes share, for `take` to follow at once; False where there is none."""
        shared = self.shared
        if shared is None:
            return True
        granted = shared.take(claim, self.limit, self.kv_capacity, now)
        self.in_flight, self.kv = shared.in_flight, shared.kv
        return granted

    def take(self, claim: Claim, now: float) -> SlotRules | None:
        """Give a slot to a request; return the rules that have to know when it is given back."""
        rules = self.rules
        self.kv += claim.kv
        if rules is not None:
            rules.took(claim, now)
        self.in_flight += 1
        self.evidence.reached(self.in_flight)
        return rules

    def give_back(self, claim: Claim, rules: SlotRules | None) -> bool:
        """Take a slot back from a request that took it under these rules; return whether it was this process's last."""
        self.in_flight -= 1
        self.kv -= claim.kv
        if rules is not None:
            rules.released(claim)
        if self.shared is not None:
            self.shared.give_back(claim)
        return not self.own

    def limit_to(self, limit: int) -> None:
        """Take another limit; what was let in under a higher one says nothing about a lower one."""
        if limit < self.limit:
            self.evidence.begin_era()
        self.limit = limit

    def limit_kv_to(self, tokens: int | None) -> None:
        """Take the engine's KV capacity, None where it does not tell one that counts."""
        self.kv_capacity = UNLIMITED if tokens is None else tokens

    def rule_by(self, rules: SlotRules) -> None:
        """Let these rules hold for free slots from now on."""
        self.rules = rules

    def looked_at(self) -> None:
        """Gather evidence anew: the limit has been judged by what there was."""
        self.evidence.clear(self.in_flight)
