"""GIF: blocks up to the end of the first frame, then only counted (GIF89a specification)."""

from __future__ import annotations

from services.media.formats.container import Container, corrupt, truncated
from services.media.intake import Limits

_IMAGE, _EXTENSION, _TRAILER = 0x2C, 0x21, 0x3B
_GRAPHIC_CONTROL = 0xF9


def read(data: bytes, limits: Limits) -> Container:
    """The container of a GIF; ``pixels`` is a GIF of the first frame alone."""
    end = len(data)
    if end < 13:
        raise truncated("GIF", f"GIF ends after {end:,} bytes, inside its header.")

    width, height = int.from_bytes(data[6:8], "little"), int.from_bytes(data[8:10], "little")
    limits.check_size("GIF", width, height)
    screen = 13 + _palette_bytes(data[10])
    control = first = b""
    frames = 0
    at = screen
    blocks = _Blocks(data, limits)
    while at < end:
        blocks.spend()
        kind = data[at]
        if kind == _EXTENSION:
            begin, at = at, blocks.skip(at + 2)
            if not frames and at <= end and data[begin + 1] == _GRAPHIC_CONTROL:
                control = data[begin:at]
        elif kind == _IMAGE:
            begin = at
            if at + 11 > end:
                break
            at = blocks.skip(at + 11 + _palette_bytes(data[at + 9]))
            frames += 1
            limits.check_frames("GIF", frames)
            if frames == 1:
                first = data[begin:at]
                # Decoders grow the screen to the first frame, so that is what has to be small enough.
                left, top, wide, high = (int.from_bytes(first[i : i + 2], "little") for i in (1, 3, 5, 7))
                width, height = max(width, left + wide), max(height, top + high)
                limits.check_size("GIF", width, height)
                if at > end:
                    raise truncated("GIF", f"GIF ends after {end:,} bytes, inside its first frame.")
        elif kind == _TRAILER:
            break
        elif kind == 0:  # padding between blocks, seen in the wild
            at += 1
        elif frames:
            break  # rubbish after the frame that matters
        else:
            raise corrupt("GIF", f"unknown block {kind:02X} at byte {at:,}.")

    if not frames:
        raise truncated("GIF", f"GIF ends after {end:,} bytes, before its first frame.")

    return Container("GIF", width, height, end, data[:screen] + control + first + b"\x3b")


def _palette_bytes(flags: int) -> int:
    return 3 * 2 << (flags & 7) if flags & 0x80 else 0


class _Blocks:
    """Skips chains of data sub-blocks, within a budget: encoders fill them, so many small ones are an attack."""

    def __init__(self, data: bytes, limits: Limits) -> None:
        self._data = data
        self._budget = len(data) // 64 + 16 * limits.max_frames

    def spend(self, steps: int = 1) -> None:
        self._budget -= steps
        if self._budget < 0:
            raise corrupt("GIF", "it consists of absurdly many small blocks.")

    def skip(self, at: int) -> int:
        """The position after the terminator of the chain that begins at ``at``; beyond the end when it is cut."""
        data, end, steps = self._data, len(self._data), 0
        while at < end:
            size = data[at]
            at += size + 1
            steps += 1
            if not size:
                self.spend(steps)
                return at
            if steps > self._budget:
                break
        self.spend(steps)
        return end + 1
