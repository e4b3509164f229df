"""Damage that can be done to any bytes."""

import random


def flip_bits(rng, data):
    out = bytearray(data)
    for _ in range(rng.choice((1, 2, 8, 64))):
        if out:
            out[rng.randrange(len(out))] ^= 1 << rng.randrange(8)
    return bytes(out)


def truncate(rng, data):
    return data[: rng.randrange(len(data))] if data else data


def cut_out(rng, data):
    start, end = sorted(rng.choices(range(len(data) + 1), k=2))
    return data[:start] + data[end:]


def repeat(rng, data):
    start, end = sorted(rng.choices(range(len(data) + 1), k=2))
    return data[:end] + data[start:end] * rng.choice((1, 2, 5)) + data[end:]


def insert(rng, data):
    place = rng.randrange(len(data) + 1)
    return data[:place] + rng.randbytes(rng.choice((1, 4, 50))) + data[place:]


def zero(rng, data):
    start, end = sorted(rng.choices(range(len(data) + 1), k=2))
    return data[:start] + bytes(end - start) + data[end:]


def extremes(rng, data):
    """Put the largest and smallest numbers of two and four bytes somewhere."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 3))):
        word = rng.choice((b"\xff\xff", b"\0\0", b"\x7f\xff", b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff"))
        place = rng.randrange(max(1, len(out) - len(word)))
        out[place : place + len(word)] = word
    return bytes(out)


def trail(rng, data):
    return data + rng.randbytes(rng.choice((1, 16, 500)))


def noise(rng, data):
    return rng.randbytes(rng.choice((0, 1, 7, 100, 3000)))


DAMAGE = (flip_bits, truncate, cut_out, repeat, insert, zero, extremes, trail, noise)


def damaged(rng: random.Random, data: bytes) -> tuple[str, bytes]:
    """Give the name of what was done, and what came of it."""
    chosen = rng.choice(DAMAGE)
    return chosen.__name__.replace("_", " "), chosen(rng, data)
