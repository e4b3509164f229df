"""Bytes for the port of gRPC that no client of gRPC would send: broken frames of HTTP/2, or none at all."""

import random
import struct

from tests.fuzz.damage import damaged
from tests.fuzz.requests import posting

# Stands in a case for a path of gRPC.
FRAMES = "frames"
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS = b"\0\0\0\4\0\0\0\0\0"


def frame(kind: int, flags: int, stream: int, payload: bytes, length: int | None = None) -> bytes:
    size = len(payload) if length is None else length
    return struct.pack(">I", size)[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def odd_frames(rng: random.Random) -> tuple[str, bytes]:
    """Give the name of what is odd, and all bytes of the connection."""
    what = rng.choice((other_protocol, any_frames, wrong_lengths, endless_headers, resets, broken_preface))
    return what.__name__.replace("_", " "), what(rng)


def other_protocol(rng):
    return rng.choice((posting("/v2/models/culture/infer", b"{}"), b"\x16\x03\x01\x02\0\1\0", rng.randbytes(500), b""))


def any_frames(rng):
    frames = [
        frame(rng.randrange(12), rng.randrange(256), rng.choice((0, 1, 2, 2**31 - 1)), rng.randbytes(rng.randrange(60)))
        for _ in range(rng.choice((1, 5, 40)))
    ]
    return PREFACE + SETTINGS + b"".join(frames)


def wrong_lengths(rng):
    length = rng.choice((0, 1, 2**14 + 1, 2**24 - 1))
    return PREFACE + SETTINGS + frame(rng.choice((0, 1, 4, 6, 8)), 4, 1, rng.randbytes(40), length)


def endless_headers(rng):
    """Headers that go on in one frame after another, and never end."""
    return PREFACE + SETTINGS + frame(1, 0, 1, b"\x82") + frame(9, 0, 1, b"\0\1a\1b" * 2000) * rng.choice((1, 20))


def resets(rng):
    """Streams that are opened and reset at once, hundreds of them."""
    streams = (
        frame(1, 5, 2 * number + 1, b"\x83\x86") + frame(3, 0, 2 * number + 1, bytes(4)) for number in range(300)
    )
    return PREFACE + SETTINGS + b"".join(streams)


def broken_preface(rng):
    return damaged(rng, PREFACE + SETTINGS)[1]
