"""A user's turn to acts: small heads on the features of a frozen encoder, then values brought to the database's."""

from services.dialog.understanding.heads import Heads
from services.dialog.understanding.reading import Reader, Understood
from services.dialog.understanding.space import Space

__all__ = ["Heads", "Reader", "Space", "Understood"]
