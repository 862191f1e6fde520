"""Bytes that resemble good ones: cut, flipped, repeated, spliced, with tokens that readers stumble over."""

import random

_TOKENS = [
    b"\x00", b"\xff\xfe", b"\xef\xbb\xbf", b"\r\n", b"\n\n", b"\t", b'"', b"'", b",", b"\\", b"{", b"}",
    b"[", b"]",     b":", b"- ", b"&a ", b"*a", b"!!python/object/apply:os.system ['true']",
    b"!!binary ", b"<<: ", b"---\n", b"%YAML 9.9\n",     b"null", b"NaN", b"Infinity", b"-1", b"1e999",
    b"9" * 400, b"true", b"\\ud800", b"\xed\xa0\x80", b"\xc0\x80",     b"../../../etc/passwd",
    b"/dev/zero", b"/etc/passwd", b"~root", b"\xe2\x80\xa8", b"\xc2\x85", b"\x0b",
    b"\x1b[2J",     b"<script>", b"%s%n", b"$(true)", b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd", b"[" * 300,
    b'{"a":' * 300, b"#", b"&", b"\x7f", b"[" * 20_000, b'{"a":' * 9_000, b"<<: [*a, *a]\n",
    b"0x" + b"f" * 4300, b"9" * 5_000, b"1e-999", b"-0.0", b"9999-99-99", b"2001-13-45 99:99:99",
    b"- a\n" * 9_000, b"-512",
    b"99999999999", b"[clean]", b"[/INST]", b"0777777\x00", b"\xff" * 8,
]  # fmt: skip


def mutated(seed: bytes, rng: random.Random, *, most: int = 6) -> bytes:
    """A few random changes; once in a while nothing but noise."""
    if rng.random() < 0.02:
        return rng.randbytes(rng.randrange(0, 200))
    if rng.random() < 0.001:  # a line without end
        place = rng.randrange(len(seed) + 1)
        return seed[:place] + rng.choice([b"x", b" ", b"\0", b"1"]) * (18 << 20) + seed[place:]
    data = bytearray(seed)
    for _ in range(rng.choice([1, 1, 1, 2, most])):
        place = rng.randrange(len(data) + 1)
        length = min(rng.choice([1, 1, 2, 4, 16, 64]), len(data) - place)
        match rng.randrange(9):
            case 0:
                del data[place:]
            case 1 | 2:
                if place < len(data):
                    data[place] ^= 1 << rng.randrange(8)
            case 3:
                del data[place : place + length]
            case 4:
                data[place:place] = data[place : place + length] * rng.choice([1, 2, 50])
            case 5 | 6:
                data[place : place + length * rng.randrange(2)] = rng.choice(_TOKENS)
            case 7:
                if len(data) >= 4:
                    word = rng.choice([0, 1, 0x7F, 0xFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF])
                    place = min(place, len(data) - 4)
                    data[place : place + 4] = word.to_bytes(4, rng.choice(["little", "big"]))  # type: ignore[arg-type]
            case 8:
                other = rng.randrange(len(data) + 1)
                data[place:place] = data[other : other + length]
        if len(data) > 60_000:
            del data[60_000:]
    return bytes(data)
