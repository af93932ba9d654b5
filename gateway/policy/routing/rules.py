"""A route's rules: which pools a request may use, by what it is."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import Final

SPILL_AT_BURN: Final = 6.0
"""Burn rate of a pool at which its requests go to the next one, unless a rule says otherwise."""


@dataclass(frozen=True, slots=True)
class Traits:
    """What rules may ask of a request. `max_tokens` is infinite where the client leaves the end to the engine."""

    endpoint: str
    prompt_tokens: int
    max_tokens: float = inf
    service_class: str = ""
    tenant: str = ""
    tools: bool = False
    images: bool = False


@dataclass(frozen=True, slots=True)
class Span:
    """Numbers from `least` to `most`, both among them."""

    least: float = 0.0
    most: float = inf

    def __contains__(self, number: float) -> bool:
        return self.least <= number <= self.most


ANY: Final = Span()


@dataclass(frozen=True, slots=True)
class When:
    """Conditions that must all hold; one that is left out (empty, None) always does."""

    endpoints: frozenset[str] = frozenset()
    prompt_tokens: Span = ANY
    max_tokens: Span = ANY
    classes: frozenset[str] = frozenset()
    tenants: frozenset[str] = frozenset()
    tools: bool | None = None
    images: bool | None = None

    def matches(self, traits: Traits) -> bool:
        """Whether a request is meant."""
        return (
            (not self.endpoints or traits.endpoint in self.endpoints)
            and traits.prompt_tokens in self.prompt_tokens
            and traits.max_tokens in self.max_tokens
            and (not self.classes or traits.service_class in self.classes)
            and (not self.tenants or traits.tenant in self.tenants)
            and self.tools in {None, traits.tools}
            and self.images in {None, traits.images}
        )


ALWAYS: Final = When()


@dataclass(frozen=True, slots=True)
class Rule:
    """Requests that are meant `use` these pools, the preferred one first."""

    use: tuple[str, ...]
    when: When = ALWAYS
    spill_at_burn: float = SPILL_AT_BURN


def first_match(rules: Sequence[Rule], traits: Traits) -> int:
    """Return the place of the first rule that a request falls under, `len(rules)` when it falls under none."""
    for place, rule in enumerate(rules):
        if rule.when.matches(traits):
            return place
    return len(rules)
