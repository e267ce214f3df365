"""How large the frames of an AV1 stream are: sequence headers alone (AV1 bitstream specification, 5.3 and 5.5)."""

from __future__ import annotations

from services.media.formats.container import corrupt

_SEQUENCE_HEADER, _FRAME_HEADER, _FRAME = 1, 3, 6
_MOST_UNITS = 4_096


def frames_and_pixels(data: bytes) -> tuple[int, int]:
    """How many frames ``data`` holds, and how many pixels the largest may have: its sequence headers say it.

    What the container says of its size binds no decoder: a stream of another size is decoded, and scaled afterwards.
    Raises ``image-corrupt``.
    """
    at = frames = largest = 0
    for _ in range(_MOST_UNITS):
        if at >= len(data):
            break
        kind, extended, sized = data[at] >> 3 & 15, data[at] & 4, data[at] & 2
        at += 2 if extended else 1
        size = len(data) - at
        if sized:
            size, at = _leb128(data, at)
        if size < 0 or at + size > len(data):
            raise corrupt("AVIF", "its stream ends inside a unit.")
        if kind == _SEQUENCE_HEADER:
            largest = max(largest, _sequence_pixels(data[at : at + size]))
        frames += kind in (_FRAME_HEADER, _FRAME)
        at += size
    else:
        raise corrupt("AVIF", "its stream consists of absurdly many units.")

    if not largest or not frames:
        raise corrupt("AVIF", "its stream holds no frame.")
    return frames, largest


def _leb128(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for place in range(8):
        if at >= len(data):
            raise corrupt("AVIF", "its stream ends inside a unit.")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << 7 * place
        if not byte & 0x80:
            break
    return value, at


class _Bits:
    """Numbers of so many bits, the highest first; zeros behind the end."""

    def __init__(self, data: bytes) -> None:
        self._value = int.from_bytes(data, "big")
        self._left = 8 * len(data)

    def read(self, count: int) -> int:
        self._left -= count
        if self._left < 0:
            raise corrupt("AVIF", "its sequence header ends too soon.")
        return self._value >> self._left & ((1 << count) - 1)

    def uvlc(self) -> None:
        zeros = 0
        while not self.read(1):
            zeros += 1
        if zeros < 32:
            self.read(zeros)


def _sequence_pixels(data: bytes) -> int:
    """``sequence_header_obu`` up to the largest frame size."""
    bits = _Bits(data[:1_024])
    bits.read(4)  # profile, still picture
    if bits.read(1):  # the short form of still pictures
        bits.read(5)
    else:
        _skip_operating_points(bits)
    width_bits, height_bits = bits.read(4) + 1, bits.read(4) + 1
    return (bits.read(width_bits) + 1) * (bits.read(height_bits) + 1)


def _skip_operating_points(bits: _Bits) -> None:
    delay_bits = 0
    if bits.read(1):  # timing
        bits.read(64)
        if bits.read(1):
            bits.uvlc()
        if bits.read(1):  # decoder model
            delay_bits = bits.read(5) + 1
            bits.read(32 + 5 + 5)

    delays = bits.read(1)
    for _ in range(bits.read(5) + 1):
        bits.read(12)
        if bits.read(5) > 7:
            bits.read(1)
        if delay_bits and bits.read(1):
            bits.read(2 * delay_bits + 1)
        if delays and bits.read(1):
            bits.read(4)
