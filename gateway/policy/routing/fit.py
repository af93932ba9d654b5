"""A small linear model of a latency, fitted online: base + seconds per prompt token + seconds per request in flight.

Weighted least squares with exponential forgetting, kept as normal equations: an observation adds to ten sums, and the
coefficients are solved for a few times a second. Rows are weighted by the inverse of what was predicted: between
absolute errors, which long prompts would rule, and relative ones, by which an engine that became slow would long be
outweighed by its own fast past. A model leans on another's sums where its own are few: a backend without samples
predicts what its pool does, and one that was not asked for a while comes back to that.
"""

from collections.abc import Sequence
from math import exp, sqrt
from typing import Final

Row = tuple[float, float, float]

FLOOR: Final = 0.0005
"""Seconds below which latencies are taken as equal: no prediction is smaller."""
CAUTION: Final = 2.0
"""Median errors by which a threshold is expected to be met: about two standard deviations are three of them."""
LEAN: Final = 2.0
"""Samples of the pool that a backend's own model leans on."""
_RIDGE: Final = 1e-6
_NOTHING: Final = 1e-12
_ERRORS_KEPT: Final = 101
_PRIOR: Row = (0.05, 0.00005, 0.001)


class Fit:
    """One latency in seconds, predicted from prompt tokens to prefill and requests in flight.

    The tokens are all that lie ahead and the request's own.
    `moments` and `products` are the sums of the normal equations; `half_life` is how many seconds make a sample count
    half; `caution` is what a prediction has to be multiplied by so that few latencies exceed it.
    """

    __slots__ = (
        "_at",
        "_errors",
        "_half_life",
        "_judged",
        "caution",
        "coefficients",
        "moments",
        "products",
        "samples",
    )

    def __init__(self, half_life: float) -> None:
        self.coefficients: Row = _PRIOR
        self.samples = 0.0
        self._half_life = half_life
        self.moments = [0.0] * 6
        self.products = [0.0] * 3
        self._errors: list[float] = []
        self._at = 0
        self._judged = False
        self.caution = 1.0

    def __repr__(self) -> str:
        base, token, request = self.coefficients
        return f"<Fit {base:.4f} s + {token:.2e} s/token + {request:.2e} s/request from {self.samples:.0f} samples>"

    def predict(self, tokens: float, in_flight: float) -> float:
        """Return the latency in seconds, at least `FLOOR`."""
        return predict(self.coefficients, tokens, in_flight)

    def observe(self, tokens: float, in_flight: float, seconds: float, predicted: float) -> None:
        """Learn one latency, and what had been predicted for it (at least `FLOOR`). Takes about a microsecond."""
        scale = predicted**-0.5
        tokens *= scale
        in_flight *= scale
        seconds *= scale
        moments, products = self.moments, self.products
        moments[0] += scale * scale
        moments[1] += scale * tokens
        moments[2] += scale * in_flight
        moments[3] += tokens * tokens
        moments[4] += tokens * in_flight
        moments[5] += in_flight * in_flight
        products[0] += scale * seconds
        products[1] += tokens * seconds
        products[2] += in_flight * seconds
        self.samples += 1.0

    def judge(self, predicted: float, seconds: float) -> None:
        """Remember how far off a prediction was."""
        error = abs(predicted - seconds) / max(seconds, FLOOR)
        self._judged = True
        if len(self._errors) < _ERRORS_KEPT:
            self._errors.append(error)
        else:
            self._errors[self._at] = error
            self._at = (self._at + 1) % _ERRORS_KEPT

    @property
    def reach(self) -> float:
        """Prompt tokens up to which samples lie, about: three standard deviations above their mean; 0.0 without any."""
        weight, tokens, squares = self.moments[0], self.moments[1], self.moments[3]
        if self.samples < 1.0:
            return 0.0
        mean = tokens / weight
        return mean + 3.0 * sqrt(max(0.0, squares / weight - mean * mean))

    @property
    def error(self) -> float | None:
        """The median absolute percentage error of the last hundred predictions, as a ratio; None before the first."""
        return sorted(self._errors)[len(self._errors) // 2] if self._errors else None

    def refit(self, elapsed: float, lean_on: "Fit | None" = None) -> None:
        """Forget for `elapsed` seconds, then solve for the coefficients, leaning on another model where given."""
        if self._judged:
            self._judged = False
            self.caution = 1.0 + CAUTION * (self.error or 0.0)
        if not self.samples and (lean_on is None or not lean_on.samples):
            return  # nothing is known, so nothing changes
        decay = exp(-0.6931 * elapsed / self._half_life)
        self.moments = [value * decay for value in self.moments]
        self.products = [value * decay for value in self.products]
        self.samples *= decay
        moments, products = self.moments, self.products
        if lean_on is not None and lean_on.samples > 0:
            share = min(1.0, LEAN / lean_on.samples)
            moments = [own + share * other for own, other in zip(moments, lean_on.moments, strict=True)]
            products = [own + share * other for own, other in zip(products, lean_on.products, strict=True)]
        if moments[0] > _NOTHING and (self.samples + (lean_on.samples if lean_on else 0.0)) >= 1.0:
            self.coefficients = _solved(moments, products)

    def forget(self) -> None:
        """Start over: what was learnt is about an engine that is no more."""
        self.moments = [0.0] * 6
        self.products = [0.0] * 3
        self.samples = 0.0


def predict(coefficients: Row, tokens: float, in_flight: float) -> float:
    """Return the latency in seconds that these coefficients give, at least `FLOOR`."""
    base, token, request = coefficients
    return max(FLOOR, base + token * tokens + request * in_flight)


def _solved(moments: Sequence[float], products: Sequence[float]) -> Row:
    """Return the least-squares coefficients, none negative: a feature that would be is left out."""
    one, to_token, to_request, token, cross, request = moments
    matrix = ((one, to_token, to_request), (to_token, token, cross), (to_request, cross, request))
    active = [index for index in range(3) if matrix[index][index] > _NOTHING]
    while True:
        solution = _eliminated(matrix, products, active)
        lowest = min(active, key=lambda index: solution[index])
        if solution[lowest] >= 0 or len(active) == 1:
            return solution[0], solution[1], solution[2]
        active.remove(lowest)


def _eliminated(matrix: Sequence[Row], products: Sequence[float], active: Sequence[int]) -> list[float]:
    """Solve the symmetric system of the active features by elimination; the others are 0."""
    rows = [[matrix[i][j] * (1 + _RIDGE if i == j else 1) for j in active] + [products[i]] for i in active]
    size = len(rows)
    for i in range(size):
        for k in range(i + 1, size):
            ratio = rows[k][i] / rows[i][i]
            rows[k] = [below - ratio * above for below, above in zip(rows[k], rows[i], strict=True)]
    solution = [0.0, 0.0, 0.0]
    for i in reversed(range(size)):
        known = sum(rows[i][j] * solution[active[j]] for j in range(i + 1, size))
        solution[active[i]] = (rows[i][size] - known) / rows[i][i]
    return solution
