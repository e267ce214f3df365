"""Which search a fit makes: the reference's own, or one that needs far fewer trials."""

from __future__ import annotations

from services.finetuning.search.grid import REFERENCE_TRIALS, Search, reference_search

SEARCHES = ("reference", "optuna")


def open_search(name: str, seed: int, trials: int | None, first: tuple[float, float]) -> tuple[Search, int]:
    """Open a search by name; with it comes the most trials that it makes.

    ``first`` (learning rate, weight decay) is where ``optuna`` begins; the reference always begins at the smallest.
    Raises ``ValueError`` for an unknown name.
    """
    if name == "reference":
        return reference_search(), min(trials or REFERENCE_TRIALS, REFERENCE_TRIALS)
    if name == "optuna":
        # Imported here: it takes a moment, and heads are searched without it.
        from services.finetuning.search.tpe import TRIALS, tpe_search

        return tpe_search(seed, trials or TRIALS, first), trials or TRIALS
    raise ValueError(f"search {name!r} is none of {', '.join(SEARCHES)}")
