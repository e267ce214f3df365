"""How long a model takes for a batch, learnt from the batches that it ran."""

from __future__ import annotations

DECAY = 0.95
"""Weight of the past at each batch: about the last twenty batches count."""

FASTER, SLOWER = 0.3, 0.02
"""How far one batch moves the estimate of an undisturbed run, when it was faster and when it was slower."""


class ServiceTime:
    """Least squares of ``seconds = fixed + each * cost`` over recent batches, older ones fading.

    ``cost`` is what the batcher counts (elements of the inputs); neither coefficient is ever negative.
    """

    def __init__(self) -> None:
        self._n = self._x = self._y = self._xx = self._xy = self._rows = 0.0
        self._undisturbed: tuple[float, float] | None = None
        self._factor = 1.0

    def observe(self, cost: int, rows: int, seconds: float) -> None:
        """A batch of ``rows`` and ``cost`` ran for ``seconds``."""
        self._n = self._n * DECAY + 1
        self._x = self._x * DECAY + cost
        self._y = self._y * DECAY + seconds
        self._xx = self._xx * DECAY + cost * cost
        self._xy = self._xy * DECAY + cost * seconds
        self._rows = self._rows * DECAY + rows
        if self._undisturbed is not None:
            fixed, each = self._undisturbed
            factor = seconds / (fixed + each * cost)
            self._factor += (factor - self._factor) * (FASTER if factor < self._factor else SLOWER)

    def calibrate(self) -> None:
        """Take what was observed so far, the best of several runs each, as runs that nothing disturbed."""
        fixed, each = self._line()
        if fixed + each > 0:
            self._undisturbed, self._factor = (fixed, each), 1.0

    def seconds(self, cost: int) -> float:
        """Return what a batch of ``cost`` will take; 0 before anything was measured."""
        fixed, each = self._line()
        return fixed + each * cost

    def undisturbed(self, cost: int) -> float:
        """Return what it takes when nothing else wants the processor; infinite before :meth:`calibrate`.

        On a busy machine a run of 0.2 ms is often seen to take 2, which says nothing about the model.
        """
        if self._undisturbed is None:
            return float("inf")
        fixed, each = self._undisturbed
        return self._factor * (fixed + each * cost)

    @property
    def rows_per_second(self) -> float:
        """The rate of recent batches while they ran; 0 before anything was measured."""
        return self._rows / self._y if self._y else 0.0

    def _line(self) -> tuple[float, float]:
        """The fixed and the growing part."""
        if not self._n:
            return 0.0, 0.0
        spread = self._n * self._xx - self._x * self._x
        if spread <= 1e-9 * self._n * self._xx:  # one size only, so far: proportional
            return (0.0, self._y / self._x) if self._x else (self._y / self._n, 0.0)
        each = (self._n * self._xy - self._x * self._y) / spread
        fixed = (self._y - each * self._x) / self._n
        if each < 0:
            return self._y / self._n, 0.0
        if fixed < 0:
            return 0.0, self._xy / self._xx
        return fixed, each
