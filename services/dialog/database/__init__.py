"""The rows that a bot may speak of: read, typed, searched."""

from services.dialog.database.reading import read_rows
from services.dialog.database.table import Row, Table, bucket

__all__ = ["Row", "Table", "bucket", "read_rows"]
