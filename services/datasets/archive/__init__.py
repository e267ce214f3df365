"""Uploaded archives, unpacked without trusting them."""

from services.datasets.archive.limits import ArchiveLimits, Budget, Watch
from services.datasets.archive.unpacking import unpack, unpack_nested

__all__ = ["ArchiveLimits", "Budget", "Watch", "unpack", "unpack_nested"]
