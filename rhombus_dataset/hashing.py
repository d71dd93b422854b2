"""Checksums, and random values that belong to a position instead of a running stream.

A random value depends on the seed, a purpose (with a camera if each has its own values) and a position. It does not
depend on values drawn before, so another camera or week changes no other draw. Integer arithmetic only: the same on
every machine.
"""

from __future__ import annotations

import hashlib
import json

import numpy as np
import numpy.typing as npt


def json_sha256(content: object) -> str:
    """Return the hex SHA-256 of ``content`` as JSON. Tuples and lists give the same; the order of keys matters."""
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def hash_key(seed: int, *purpose: str) -> int:
    """Return a 64-bit key for the hashes of one purpose."""
    text = "\0".join([str(seed), *purpose])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


def hashes(key: int, positions: npt.NDArray[np.int64]) -> npt.NDArray[np.uint64]:
    """Return a uniform 64-bit value for each position: uint64, of the shape of ``positions``.

    Two rounds of the finaliser of SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom
    number generators", 2014), with the key added before each.
    """
    values = positions.astype(np.uint64)
    for _ in range(2):
        values *= np.uint64(0x9E3779B97F4A7C15)
        values += np.uint64(key)
        values ^= values >> np.uint64(30)
        values *= np.uint64(0xBF58476D1CE4E5B9)
        values ^= values >> np.uint64(27)
        values *= np.uint64(0x94D049BB133111EB)
        values ^= values >> np.uint64(31)
    return values
