"""Damages files as disks, networks and attackers do: bytes, lengths, pieces, whole structures."""

import struct
import zlib
from collections.abc import Callable, Sequence
from random import Random
from typing import TypeAlias

Mutation: TypeAlias = Callable[[Random, bytearray, Sequence[bytes]], None]

_PNG = b"\x89PNG\r\n\x1a\n"
_NUMBERS = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 0xFFFFFFFE, 0x10000)
_MOST = 5  # mutations of one file
_LONGEST = 1 << 20


def mutated(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Return the file with a few mutations; a PNG sometimes with right check sums, so that the damage gets past them."""
    changed = bytearray(data)
    for _ in range(random.randint(1, random.randint(1, _MOST))):
        random.choice(_MUTATIONS)(random, changed, others)
        if not changed:
            break
    del changed[_LONGEST:]
    mended = random.random() < 0.8
    return _mended(bytes(changed)) if mended and changed.startswith(_PNG) else bytes(changed)


def _flip(random: Random, data: bytearray, _others: Sequence[bytes]) -> None:
    data[random.randrange(len(data))] ^= 1 << random.randrange(8)


def _byte(random: Random, data: bytearray, _others: Sequence[bytes]) -> None:
    data[random.randrange(len(data))] = random.choice((0, 0xFF, random.randrange(256)))


def _early(random: Random, data: bytearray, _others: Sequence[bytes]) -> None:
    """Headers stand in front: that is where a byte counts."""
    data[min(int(random.expovariate(1 / 200)), len(data) - 1)] = random.randrange(256)


def _number(random: Random, data: bytearray, _others: Sequence[bytes]) -> None:
    kind = random.choice(("<H", ">H", "<I", ">I"))
    packed = struct.pack(kind, random.choice(_NUMBERS) & ((1 << 8 * struct.calcsize(kind)) - 1))
    at = min(int(random.expovariate(1 / 300)), len(data) - 1)
    data[at : at + len(packed)] = packed


def _cut(random: Random, data: bytearray, _others: Sequence[bytes]) -> None:
    del data[random.randrange(len(data)) :]


def _remove(random: Random, data: bytearray, _others: Sequence[bytes]) -> None:
    start = random.randrange(len(data))
    del data[start : start + random.randint(1, 1 + len(data) // 8)]


def _repeat(random: Random, data: bytearray, _others: Sequence[bytes]) -> None:
    start = random.randrange(len(data))
    piece = data[start : start + random.randint(1, 64)]
    data[start:start] = piece * random.randint(1, 20)


def _insert(random: Random, data: bytearray, _others: Sequence[bytes]) -> None:
    at = random.randrange(len(data))
    data[at:at] = random.randbytes(random.randint(1, 64))


def _splice(random: Random, data: bytearray, others: Sequence[bytes]) -> None:
    other = random.choice(others)
    start, at = random.randrange(len(other)), random.randrange(len(data))
    data[at : at + random.randint(0, 64)] = other[start : start + random.randint(1, 1 + len(other) // 4)]


_MUTATIONS: tuple[Mutation, ...] = (
    *(_flip, _flip, _byte, _byte, _early, _early, _number, _number, _cut, _remove, _repeat, _insert, _splice),
)


def _mended(data: bytes) -> bytes:
    """With the check sum of each chunk."""
    mended, at = bytearray(data[:8]), 8
    while at + 12 <= len(data):
        length = int.from_bytes(data[at : at + 4])
        if at + 12 + length > len(data):
            break
        body = data[at + 4 : at + 8 + length]
        mended += data[at : at + 4] + body + zlib.crc32(body).to_bytes(4)
        at += 12 + length
    return bytes(mended + data[at:])
