#!/usr/bin/env python3
"""Restores a snapshot from a hah-vault repository, with Python's standard library and the commands age and zstd.

It shares no code with hah-vault: it is a second reader, written from SPEC.md (the § numbers are SPEC.md's), for the day
on which nothing else is left, and to show that the text is complete. Plain rather than fast (BLAKE3: some 15 MB a second).

  restore.py --identity identity.txt REPOSITORY MANIFEST [-o FILE] [--gzip]

REPOSITORY is a local copy of the bucket. MANIFEST is SOURCE/YYYYMMDDTHHMMSSZ-xxxxxxxx or SOURCE@latest. Written is the
stream: the tar of a Raft snapshot (--gzip wraps it for `operator raft snapshot restore`; the servers take any gzip), or
the bytes of anything else. FILE appears under its name only when everything has been checked, never before.

Exit codes: 0 done, 1 failed, 2 usage, 10 no repository, 12 no identity fits, 13 repository too new, 130 interrupted.
"""
import argparse
import base64
import array
import functools
import gzip
import hashlib
import hmac
import io
import json
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from datetime import datetime, timedelta
from pathlib import Path

FORMAT_VERSION = 1
MIB = 1 << 20
# Limits (§13).
PACK_PLAINTEXT_MAX, PACK_OBJECT_MAX, MANIFEST_MAX = 8 * MIB, 10 * MIB, 32 * MIB
AGE_OVERHEAD_MAX, KEY_OBJECT_MAX = 64 << 10, 64 << 10
PACKS_MAX, EXTENTS_MAX, REGIONS_MAX, LABELS_MAX, RECORD_TAGS_MAX = 1 << 16, 1 << 20, 1 << 12, 64, 256
TEXT_MAX, LABEL_VALUE_MAX, STREAM_MAX, UNIX_S_MAX = 255, 4096, 1 << 46, 253_402_300_799
KEYSTORE_MAX = 4 * MIB
CLOCK_TOLERANCE = 360  # seconds (§2.3)
CACHED_PACKS = 32  # plaintexts held in memory, at most 256 MiB


class Failure(Exception):
    """What went wrong, what to do about it, and the exit code."""

    def __init__(self, message, hint=None, code=1):
        super().__init__(message)
        self.hint, self.code = hint, code


class FormatError(Failure):
    """Bytes that are not as §§2-8 want them; `kind` is the error's class (§14)."""

    def __init__(self, kind, message):
        super().__init__(f"{message} ({kind})", code=13 if kind == "too-new" else 1)
        self.kind = kind


def need(condition, kind, message):
    if not condition:
        raise FormatError(kind, message)


# ---- BLAKE3: github.com/BLAKE3-team/BLAKE3-specs. Many chunks are hashed at once: word i of all of them is one big
# Python number with 64 bits for each chunk ("lane"), of which the upper 32 take carries and are masked away.

IV = (0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19)
PERMUTATION = (2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8)
COLUMNS_AND_DIAGONALS = ((0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15),
                         (0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14))
CHUNK_START, CHUNK_END, PARENT, ROOT, KEYED_HASH, DERIVE_CONTEXT, DERIVE_MATERIAL = (1 << i for i in range(7))
CHUNK_LEN, BATCH_LEN = 1024, 4 * MIB


@functools.lru_cache(maxsize=64)
def ones(lanes):
    return int.from_bytes(b"\1\0\0\0\0\0\0\0" * lanes, "little")


def to_lanes(words):
    return int.from_bytes(array.array("Q", words).tobytes(), sys.byteorder)


def from_lanes(number, lanes):
    return array.array("Q", number.to_bytes(8 * lanes, sys.byteorder))


# On a big-endian machine the first lane is the uppermost; only that all functions agree on it matters.
def compress(cv, message, counters, block_len, flags, lanes=1):
    """The 16 words after the 7 rounds, before the feed-forward of `cv` into the upper half."""
    one = ones(lanes)
    mask = one * 0xFFFFFFFF
    low, high = counters
    v = [*cv, *(IV[i] * one for i in range(4)), low, high, block_len * one, flags * one]
    m = list(message)
    for _ in range(7):
        for i, (a, b, c, d) in enumerate(COLUMNS_AND_DIAGONALS):
            for x, r_d, r_b in ((m[2 * i], 16, 12), (m[2 * i + 1], 8, 7)):
                v[a] = (v[a] + v[b] + x) & mask
                t = v[d] ^ v[a]
                v[d] = (t >> r_d | t << (32 - r_d)) & mask
                v[c] = (v[c] + v[d]) & mask
                t = v[b] ^ v[c]
                v[b] = (t >> r_b | t << (32 - r_b)) & mask
        m = [m[p] for p in PERMUTATION]
    return [v[i] ^ v[i + 8] for i in range(8)] + v[8:]


def words_of(data):
    words = array.array("I", data)
    assert words.itemsize == 4
    if sys.byteorder == "big":
        words.byteswap()
    return words


def count(value):
    return value & 0xFFFFFFFF, value >> 32


class Blake3:
    """hash, keyed_hash or derive_key of data that comes in pieces."""

    def __init__(self, key_words=IV, flags=0):
        self.key, self.flags = list(key_words), flags
        self.buffer, self.chunks, self.batches = bytearray(), 0, []

    def update(self, data):
        self.buffer += data
        # A batch is a whole subtree. The last bytes stay: only `digest` knows that they are the end.
        while len(self.buffer) > BATCH_LEN:
            self.batches.append(self.subtree(bytes(self.buffer[:BATCH_LEN])))
            del self.buffer[:BATCH_LEN]
        return self

    def nodes(self, data):
        """The chaining values of whole chunks and of a last, shorter one: 8 columns of words."""
        cut = len(data) // CHUNK_LEN * CHUNK_LEN
        nodes = self.whole_chunks(data[:cut])
        if cut < len(data):
            for column, word in zip(nodes, self.one_chunk(data[cut:])):
                column.append(word)
            self.chunks += 1
        return nodes

    def subtree(self, data):
        return [column[0] for column in self.join(self.nodes(data), 1)]

    def whole_chunks(self, data):
        lanes = len(data) // CHUNK_LEN
        if not lanes:
            return [array.array("Q") for _ in range(8)]
        words, one = words_of(data), ones(lanes)
        index = range(self.chunks, self.chunks + lanes)
        counters = to_lanes(i & 0xFFFFFFFF for i in index), to_lanes(i >> 32 for i in index)
        self.chunks += lanes
        cv = [word * one for word in self.key]
        for block in range(16):
            message = [to_lanes(words[16 * block + i :: 256]) for i in range(16)]
            flags = self.flags | (CHUNK_START if block == 0 else 0) | (CHUNK_END if block == 15 else 0)
            cv = compress(cv, message, counters, 64, flags, lanes)[:8]
        return [from_lanes(word, lanes) for word in cv]

    def one_chunk(self, data, root=0, output_block=0):
        cv, at = self.key, 0
        flags = self.flags | CHUNK_START
        while True:
            block = data[at : at + 64]
            end = at + 64 >= len(data)
            counter = output_block if end and root else self.chunks
            message = words_of(block + bytes(64 - len(block)))
            out = compress(cv, message, count(counter), len(block), flags | (CHUNK_END | root if end else 0))
            if end:
                return out[:8] + [a ^ b for a, b in zip(out[8:], cv)]
            cv, at, flags = out[:8], at + 64, self.flags

    def join(self, nodes, until):
        """Parents of neighbours, level by level; an odd last node moves up as it is. Stops at `until` nodes."""
        while len(nodes[0]) > until:
            lanes = len(nodes[0]) // 2
            message = [to_lanes(column[side : 2 * lanes : 2]) for side in (0, 1) for column in nodes]
            cv = [word * ones(lanes) for word in self.key]
            out = compress(cv, message, (0, 0), 64, self.flags | PARENT, lanes)
            odd = [column[2 * lanes :] for column in nodes]
            nodes = [from_lanes(word, lanes) + rest for word, rest in zip(out, odd)]
        return nodes

    def digest(self, length=32):
        """The first `length` bytes of the output. Nothing may be added afterwards."""
        if not self.batches and len(self.buffer) <= CHUNK_LEN:
            output = functools.partial(self.one_chunk, bytes(self.buffer), ROOT)
        else:
            last = bytes(self.buffer)
            if self.batches:
                nodes = [array.array("Q", column) for column in zip(*self.batches, self.subtree(last))]
            else:
                nodes = self.nodes(last)
            left, right = zip(*self.join(nodes, 2))
            output = functools.partial(self.root_parent, [*left, *right])
        blocks = (output(i) for i in range((length + 63) // 64))
        return b"".join(word.to_bytes(4, "little") for block in blocks for word in block)[:length]

    def root_parent(self, message, output_block):
        out = compress(self.key, message, count(output_block), 64, self.flags | PARENT | ROOT)
        return out[:8] + [a ^ b for a, b in zip(out[8:], self.key)]


def blake3(data):
    return Blake3().update(data).digest()


def keyed_blake3(key, data):
    return Blake3(words_of(key), KEYED_HASH).update(data).digest()


def derive_key(context, material, length=32):
    key = Blake3(IV, DERIVE_CONTEXT).update(context.encode()).digest()
    return Blake3(words_of(key), DERIVE_MATERIAL).update(material).digest(length)


# ---- §2: text forms.

SOURCE_RULE = re.compile(r"[a-z0-9][a-z0-9-]{0,62}\Z")
BECH32_DIGITS = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"


def check_source(text):
    need(SOURCE_RULE.match(text), "name", f"{text!r} is not the name of a source")
    return text


def parse_hex(text, len_bytes):
    need(re.match(rf"[0-9a-f]{{{2 * len_bytes}}}\Z", text), "name", f"{text!r} is not {2 * len_bytes} hex digits")
    return bytes.fromhex(text)


def parse_time(text):
    match = re.match(r"([0-9]{4})([0-9]{2})([0-9]{2})T([0-9]{2})([0-9]{2})([0-9]{2})Z\Z", text)
    need(match, "name", f"{text!r} is not a time")
    try:
        since_1970 = datetime(*(int(part) for part in match.groups())) - datetime(1970, 1, 1)
    except ValueError:
        raise FormatError("name", f"{text!r} is not a time") from None
    need(since_1970.days >= 0, "name", f"{text!r} is before 1970")
    return since_1970 // timedelta(seconds=1)


def time_text(unix_s):
    return f"{datetime(1970, 1, 1) + timedelta(seconds=unix_s):%Y%m%dT%H%M%SZ}"


def parse_manifest_name(text):
    match = re.match(r"([^/]*)/([^-/]*)-([0-9a-f]{8})\Z", text)
    need(match, "name", f"{text!r} is not the name of a manifest")
    return check_source(match[1]), parse_time(match[2]), match[3]


def parse_identity(text):
    """The 32 bytes of AGE-SECRET-KEY-1… (bech32, BIP 173). The text never stands in an error."""
    need(text in (text.upper(), text.lower()), "key", "an identity mixes upper and lower case")
    prefix, _, digits = text.lower().rpartition("1")
    need(prefix == "age-secret-key-" and set(digits) <= set(BECH32_DIGITS), "key", "not an AGE-SECRET-KEY-1…")
    values = [BECH32_DIGITS.index(digit) for digit in digits]
    state = 1
    for value in [ord(c) >> 5 for c in prefix] + [0] + [ord(c) & 31 for c in prefix] + values:
        top, state = state >> 25, (state & 0x1FFFFFF) << 5 ^ value
        for i, generator in enumerate((0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)):
            state ^= generator if top >> i & 1 else 0
    need(state == 1, "key", "the checksum of an identity is wrong")
    need(len(values) == 52 + 6, "key", "an identity is not of 32 bytes")
    number = functools.reduce(lambda n, value: n << 5 | value, values[:52], 0)
    need(number & 15 == 0, "not-canonical", "the padding bits of an identity are not 0")
    return (number >> 4).to_bytes(32, "big")


# ---- §4: keys.

def context(purpose):
    return f"hah-vault 2026-11-22 v1 {purpose}"


def repository_id(identity):
    return derive_key(context("repository id"), identity)[:16]


def source_secret(identity, source):
    writer = derive_key(context("writer secret"), identity)
    return derive_key(context("source secret"), writer + source.encode())


def manifest_tag_key(identity, source):
    return derive_key(context("manifest tag key"), source_secret(identity, source))


# ---- §3: the codec.

class Reader:
    """Reads a body from front to back."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, n):
        need(n <= len(self.data) - self.at, "decode", "a body ends early")
        self.at += n
        return self.data[self.at - n : self.at]

    def uint(self, bits=64):
        first = self.take(1)[0]
        if first <= 250:
            return first
        width = {251: 2, 252: 4, 253: 8}.get(first, 99)
        need(width * 8 <= bits, "decode", f"a number is wider than {bits} bits")
        value = int.from_bytes(self.take(width), "little")
        need(value > (250 if width == 2 else (1 << width * 4) - 1), "not-canonical", "a number is not in its shortest form")
        return value

    def int(self):
        zigzag = self.uint()
        return zigzag >> 1 ^ -(zigzag & 1)

    def bytes(self):
        return self.take(self.uint())

    def text(self):
        try:
            return self.bytes().decode("utf-8", "strict")
        except UnicodeDecodeError:
            raise FormatError("decode", "a text is not UTF-8") from None

    def list(self, item, limit=None, what=None):
        length = self.uint()
        need(limit is None or length <= limit, "limit", f"{length} {what} are more than {limit}")
        return [item() for _ in range(length)]

    def option(self, item):
        present = self.take(1)[0]
        need(present <= 1, "decode", "an optional field is neither there nor not")
        return item() if present else None

    def variant(self, names):
        number = self.uint(32)
        need(number < len(names), "decode", f"variant {number} is unknown")
        return names[number]

    def end(self):
        need(self.at == len(self.data), "not-canonical", "there are bytes after the body")


# ---- §5: the envelope.

def padme(length):
    """The smallest PADMÉ length that is at least `length`."""
    if length < 2:
        return length
    exponent = length.bit_length() - 1
    mask = (1 << max(0, exponent - exponent.bit_length())) - 1
    return length + mask & ~mask


def open_envelope(data, key, logical_name):
    magic = b"HAHVMANF"
    need(len(data) < 8 or data[:8] == magic, "magic", "this is not a manifest")
    need(len(data) >= 50, "short", "the manifest ends early")
    version = int.from_bytes(data[8:10], "little")
    need(version <= FORMAT_VERSION, "too-new", f"format version {version} is newer than this program")
    body_len = int.from_bytes(data[42:50], "little")
    need(body_len <= len(data) - 50, "short", "the manifest ends early")
    name = logical_name.encode()
    tagged = data[:10] + len(name).to_bytes(8, "little") + name + data[42 : 50 + body_len]
    tag = keyed_blake3(key, tagged)
    need(version > 0 and hmac.compare_digest(tag, data[10:42]), "tag", f"{logical_name} is not authentic")
    need(padme(50 + body_len) == len(data) and not any(data[50 + body_len :]), "padding", "the padding is wrong")
    return data[50 : 50 + body_len]


# ---- §6: the manifest.

KINDS = ("other", "raft", "vault", "consul", "nomad")
WRAPPERS = ("none", "gzip-go-to-1.26", "gzip-unknown")


def read_extents(reader):
    """(pack, offset from the end of the last extent of the same pack in this list, length)"""
    return reader.list(lambda: (reader.uint(32), reader.int(), reader.uint(32)), EXTENTS_MAX, "extents")


def resolve(extents, packs):
    """[pack, offset in its plaintext, length], all of them inside their packs."""
    ends, resolved = [0] * len(packs), []
    for pack, delta, length in extents:
        need(pack < len(packs), "inconsistent", "an extent names a pack that is not in the table")
        offset, ends[pack] = ends[pack] + delta, ends[pack] + delta + length
        inside = 0 <= offset < ends[pack] <= packs[pack][2]
        need(inside, "inconsistent", "an extent is empty or lies outside its pack")
        resolved.append([pack, offset, length])
    return resolved


def parse_manifest(data, key, name):
    """§6, with all of its checks. `packs` are (name, object length, plaintext length)."""
    need(len(data) <= MANIFEST_MAX, "limit", "the manifest is too long")
    r = Reader(open_envelope(data, key, f"manifest/{name}"))
    m = {"key_generation": r.uint(32)}
    source = r.text()
    need(SOURCE_RULE.match(source), "decode", f"{source!r} is not the name of a source")

    def name_of(time_and_suffix):
        unix_s, suffix = time_and_suffix
        need(unix_s <= UNIX_S_MAX, "limit", "a time lies after the year 9999")
        return f"{source}/{time_text(unix_s)}-{suffix:08x}"

    own = r.uint(), r.uint(32)
    m["kind"], m["host"], m["tool"] = r.variant(KINDS), r.text(), r.text()
    parent = r.option(lambda: (r.uint(), r.uint(32)))
    m["raft"] = r.option(lambda: [r.uint(), r.uint(), r.uint(), r.text()])
    m["labels"] = r.list(lambda: [r.text(), r.text()], LABELS_MAX, "labels")
    m["original"] = [WRAPPERS.index(r.variant(WRAPPERS)), r.uint(), r.take(32).hex()]
    m["stream"] = [r.uint(), r.take(32).hex()]
    m["regions"], notes = None, None
    if r.variant(("none", "map order")) == "map order":
        m["regions"] = r.list(lambda: [r.uint(), r.uint()], REGIONS_MAX, "regions")
        notes = read_extents(r)
    m["chunker"] = [r.uint(32), r.uint(32)]
    m["packs"] = r.list(lambda: [r.take(32).hex(), r.uint(), r.uint(32)], PACKS_MAX, "packs")
    extents = read_extents(r)
    m["records"] = r.list(lambda: [r.text(), r.uint()], RECORD_TAGS_MAX, "record tags")
    m["counts"] = [r.uint() for _ in range(4)]
    r.end()
    # All bytes are read; now what they say.
    m["name"], m["parent"] = name_of(own), name_of(parent) if parent else None
    m["extents"] = resolve(extents, m["packs"])
    m["notes"] = None if notes is None else resolve(notes, m["packs"])
    check_manifest(m, name)
    return m


def check_manifest(m, name):
    def limit(value, most, what):
        need(value <= most, "limit", f"{what}: {value} is more than {most}")

    def agree(condition, message):
        need(condition, "inconsistent", message)

    agree(m["name"] == name, "the name inside the manifest is not its own")
    agree(m["key_generation"] > 0, "the key generation is 0")
    texts = [m["host"], m["tool"], *(m["raft"] or [""])[-1:], *(tag for tag, _ in m["records"])]
    for text in texts + [key for key, _ in m["labels"]]:
        limit(len(text.encode()), TEXT_MAX, "text length")
    for key, value in m["labels"]:
        agree(key, "a label has no key")
        limit(len(value.encode()), LABEL_VALUE_MAX, "label length")
    keys = [key.encode() for key, _ in m["labels"]]
    agree(all(a < b for a, b in zip(keys, keys[1:])), "the labels are not sorted and unique")
    for _, object_len, plaintext_len in m["packs"]:
        limit(object_len, PACK_OBJECT_MAX, "pack object length")
        limit(plaintext_len, PACK_PLAINTEXT_MAX, "pack plaintext length")
    agree(len({pack[0] for pack in m["packs"]}) == len(m["packs"]), "a pack is named twice")
    used = {extent[0] for extent in m["extents"] + (m["notes"] or [])}
    agree(len(used) == len(m["packs"]), "a pack is named, but not used")
    (stream_len, _), (wrapper, original_len, _) = m["stream"], m["original"]
    total = sum(length for _, _, length in m["extents"])
    agree(total == stream_len <= STREAM_MAX, "the extents do not add up to the stream's length")
    agree(wrapper or original_len == stream_len, "no wrapper, but the original and the stream differ in length")
    end = 0
    for skip, length in m["regions"] or []:
        end += skip + length
        agree(length and end <= stream_len, "a region is empty or lies outside the stream")


# ---- §8: packs.

def unpad(data, plaintext_len):
    """The zstd frame of a pack; the padding frame after it is checked."""

    def field(at, n):
        need(at + n <= len(data), "short", "the pack ends early")
        return int.from_bytes(data[at : at + n], "little")

    def good(condition, message):
        need(condition, "inconsistent", message)

    need(data[:4] == b"\x28\xb5\x2f\xfd", "magic", "the pack does not begin with a zstd frame")
    descriptor = field(4, 1)
    single, at = descriptor >> 5 & 1, 5
    good(descriptor & 3 == 0, "the zstd frame needs a dictionary")
    good(descriptor & 8 == 0, "the zstd frame uses a reserved bit")
    if not single:
        window = field(at, 1)
        good(window >> 3 < 13 or window == 13 << 3, "the zstd window is larger than 8 MiB")
        at += 1
    size_len = (single, 2, 4, 8)[descriptor >> 6]
    good(size_len, "the zstd frame declares no size")
    size = field(at, size_len) + (256 if size_len == 2 else 0)
    good(size == plaintext_len <= PACK_PLAINTEXT_MAX, "the zstd frame declares another size than the manifest")
    at, last = at + size_len, False
    while not last:
        header = field(at, 3)
        last, kind, size = header & 1, header >> 1 & 3, header >> 3
        good(kind != 3, "a zstd block is of a reserved type")
        at += 3 + (1 if kind == 1 else size)
    at += 4 if descriptor & 4 else 0  # checksum
    skippable = field(at, 4), field(at + 4, 4)
    framed = skippable == (0x184D2A50, len(data) - at - 8)
    need(framed and padme(at + 8) == len(data) and not any(data[at + 8 :]), "padding", "the padding is wrong")
    return data[:at]


# ---- §7: map order.

RECORD_MAX, DEPTH_MAX, KEY_SETS_MAX, REMEMBERED_MAX = MIB, 128, 4096, MIB
MSGPACK_FIXED = {0xCA: 4, 0xCB: 8, 0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8, 0xD0: 1, 0xD1: 2, 0xD2: 4, 0xD3: 8,
                 0xD4: 2, 0xD5: 3, 0xD6: 5, 0xD7: 9, 0xD8: 17}
# Width of the length field, and the bytes (a type) that follow it before those it counts.
MSGPACK_COUNTED = {0xC4: (1, 0), 0xC5: (2, 0), 0xC6: (4, 0), 0xC7: (1, 1), 0xC8: (2, 1), 0xC9: (4, 1),
                   0xD9: (1, 0), 0xDA: (2, 0), 0xDB: (4, 0)}
MSGPACK_LISTS = {0xDC: (2, 1), 0xDD: (4, 1), 0xDE: (2, 2), 0xDF: (4, 2)}  # width, values for each item


def undo_map_order(stream, regions, notes):
    """Yields the bytes of the original stream: `stream` is a file of the stored stream, `regions` the list of
    (skip, length), `notes` the bytes of the order notes."""
    orders = Orders(RangeDecoder(notes))
    for skip, length in regions:
        yield from copy(stream, skip)
        yield from region(stream, length, orders)
    yield from copy(stream, None)
    need(orders.notes.at == len(notes), "padding", "there are order notes left over")


def copy(stream, length):
    """The next `length` bytes, or all that is left."""
    while length is None or length > 0:
        block = stream.read(MIB if length is None else min(length, MIB))
        if not block:
            return need(length is None, "short", "the stream ends early")
        length = None if length is None else length - len(block)
        yield block


def region(stream, length, orders):
    """One region of records: a type byte and one msgpack value each."""
    buffer, at = b"", 0
    while length or at < len(buffer):
        end = end_of_value(buffer, at + 1)
        while end > len(buffer) and length:  # more and more of it, should a record not end
            block = stream.read(min(length, max(RECORD_MAX, len(buffer) - at)))
            need(block, "short", "the stream ends early")
            buffer, at, length = buffer[at:] + block, 0, length - len(block)
            end = end_of_value(buffer, 1)
        if end > len(buffer):
            need(len(buffer) - at > RECORD_MAX, "short", "a region ends within a record")
            yield buffer[at:]
            return
        yield restore_record(buffer[at:end], orders)
        at = end


def restore_record(record, orders):
    if len(record) > RECORD_MAX or orders.notes.bit(orders.as_is):
        return record
    value, end = restore_value(record, 1, 0, orders)
    need(end == len(record), "inconsistent", "a record has another length than it had")
    return record[:1] + value


def msgpack_head(data, at):
    """(end of what stands before nested values, number of those, values for each item: 0 none, 1 array, 2 map)"""
    first = data[at]
    at += 1
    if first in MSGPACK_LISTS:
        width, per_item = MSGPACK_LISTS[first]
        return at + width, int.from_bytes(data[at : at + width], "big") * per_item, per_item
    if 0x80 <= first < 0xA0:
        per_item = 2 if first < 0x90 else 1
        return at, (first & 15) * per_item, per_item
    if first in MSGPACK_COUNTED:
        width, more = MSGPACK_COUNTED[first]
        return at + width + more + int.from_bytes(data[at : at + width], "big"), 0, 0
    need(first != 0xC1, "inconsistent", "a record is not msgpack")
    return at + (first & 31 if 0xA0 <= first < 0xC0 else MSGPACK_FIXED.get(first, 0)), 0, 0


def end_of_value(data, at):
    """Where the value that begins at `at` ends; more than the length if it is cut off."""
    left = 1
    while left:
        if at >= len(data):
            return len(data) + 1
        at, nested, _ = msgpack_head(data, at)
        left += nested - 1
    return at


def restore_value(data, start, depth, orders):
    """The value at `start` with the original order in all its maps, and where it ends."""
    at, nested, per_item = msgpack_head(data, start)
    if not nested:
        return data[start:at], at
    need(depth < DEPTH_MAX, "limit", "a record is nested too deeply")
    head, parts, hashes = data[start:at], [], 0
    for i in range(nested):
        part, end = restore_value(data, at, depth + 1, orders)
        if per_item == 2 and i % 2 == 0:
            hashes = hashes + key_hash(part) & LANE_MASK
        parts.append(part)
        at = end
    if per_item == 2 and nested > 2:
        entries = [key + value for key, value in zip(parts[::2], parts[1::2])]
        parts = [entries[i] for i in orders.next(hashes, len(entries))]
    return head + b"".join(parts), at


LANE_MASK = (1 << 64) - 1


def key_hash(key):
    """§7.4"""
    h = len(key)
    for at in range(0, len(key), 8):
        h = (h ^ int.from_bytes(key[at : at + 8], "little")) * 0x9E3779B97F4A7C15 & LANE_MASK
        h ^= h >> 32
    return h


class RangeDecoder:
    """§7.3. A probability is a list [p, seen]."""

    def __init__(self, notes):
        self.notes, self.at, self.range, self.code = notes, 0, 0xFFFFFFFF, None

    def byte(self):
        need(self.at < len(self.notes), "short", "the order notes end early")
        self.at += 1
        return self.notes[self.at - 1]

    def start(self):
        if self.code is None:
            self.code = int.from_bytes(bytes(self.byte() for _ in range(4)), "big")

    def refill(self):
        while self.range < 1 << 24:
            self.range, self.code = self.range << 8, (self.code << 8 | self.byte()) & 0xFFFFFFFF

    def bit(self, probability):
        self.start()
        p, seen = probability
        split = (self.range >> 16) * p
        bit = self.code < split
        if bit:
            self.range, p = split, p + (65536 - p) // (seen + 2)
        else:
            self.range, self.code, p = self.range - split, self.code - split, p - p // (seen + 2)
        probability[:] = min(max(p, 32), 65504), min(seen + 1, 126)
        self.refill()
        return bit

    def choice(self, n):
        self.start()
        need(n <= 65535, "limit", "a map has too many entries")
        share = self.range // n
        choice = self.code // share
        need(choice < n, "inconsistent", "the order notes are damaged")
        self.code, self.range = self.code - share * choice, share
        self.refill()
        return choice


class Orders:
    """§§7.4, 7.5: the memory of key sets. A key set is [steady, cycles], a cycle [places, rotation, confidence]."""

    def __init__(self, notes):
        self.notes, self.young, self.old, self.used = notes, {}, {}, 0
        self.as_is, self.ascending, self.tables = [32768, 0], [32768, 0], {}

    def probability(self, *index):
        return self.tables.setdefault(index, [32768, 0])

    def in_full(self, n):
        order = list(range(n))
        for i in range(n - 1):
            j = i + self.notes.choice(n - i)
            order[i], order[j] = order[j], order[i]
        return order

    def cycle_of(self, order):
        self.used += len(order)
        rotation = order.index(0)
        return [order[rotation:] + order[:rotation], rotation, 1]

    def next(self, hashes, n):
        """The order of the next map."""
        if len(self.young) >= KEY_SETS_MAX or self.used >= REMEMBERED_MAX:
            self.old, self.young, self.used = self.young, {}, 0
        key_set = hashes, n
        if key_set not in self.young and key_set in self.old:
            self.young[key_set] = self.old.pop(key_set)
            self.used += n * len(self.young[key_set][1])
        if key_set in self.young:
            return self.of_known(self.young[key_set], n)
        ascending = self.notes.bit(self.ascending)
        order = list(range(n)) if ascending else self.in_full(n)
        if n <= 256:
            self.young[key_set] = [ascending, [self.cycle_of(order)]]
        return order

    def of_known(self, known, n):
        (steady, cycles), size, i = known, min(n - 2, 7), 0
        while n > 2 and i < len(cycles) and self.notes.bit(self.probability("another", steady, size, i)):
            i += 1
        if i == len(cycles):
            order = self.in_full(n)
            known[0], cycles[:] = False, [self.cycle_of(order), *cycles[:3]]
            return order
        cycle = cycles.pop(i)
        cycles.insert(0, cycle)
        places, rotation, confidence = cycle
        if self.notes.bit(self.probability("expected", steady, size, min(confidence, 4))):
            cycle[2] = min(confidence + 1, 255)
        else:
            choice = self.notes.choice(n - 1)
            expected, rotation = rotation, choice + (choice >= rotation)
            known[0] = False
            cycle[1:] = (rotation, 1) if confidence == 0 else (expected, confidence - 1)
        return places[n - rotation :] + places[: n - rotation]


# ---- The commands age and zstd.

def run(command, what, data=b"", limit=0, inherit_stderr=False):
    """Standard output of a command that is given `data`; stopped when it writes more than `limit` bytes."""
    with tempfile.TemporaryFile() as errors:
        stderr = None if inherit_stderr else errors
        try:
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr)
        except FileNotFoundError:
            raise Failure(f"the command {command[0]} is missing", f"install {command[0]}") from None

        def feed():
            try:
                with process.stdin:
                    process.stdin.write(data)
            except BrokenPipeError:
                pass  # its exit status tells

        feeder = threading.Thread(target=feed)
        feeder.start()
        output = process.stdout.read(limit + 1)
        if len(output) > limit:
            process.kill()
        process.stdout.close()
        feeder.join()
        status = process.wait()
        need(len(output) <= limit, "limit", f"{what} holds more than {limit} bytes")
        if status:
            errors.seek(0)
            said = errors.read(2000).decode(errors="replace").strip().splitlines()
            raise Failure(f"{command[0]} cannot open {what}" + (f": {said[0]}" if said else ""))
        return output


def age_open(path, identity_text, what, limit):
    """Opens an age file. The identity goes through a pipe, never through a file."""
    return run(["age", "-d", "-i", "-", str(path)], what, identity_text.encode() + b"\n", limit)


def unzstd(frame, plaintext_len, what):
    plaintext = run(["zstd", "-dcq"], what, frame, plaintext_len)
    need(len(plaintext) == plaintext_len, "short", f"{what} holds too few bytes")
    return plaintext


def read_object(path, limit, what):
    try:
        with open(path, "rb") as file:
            data = file.read(limit + 1)
    except FileNotFoundError:
        raise Failure(f"{what} is missing") from None
    need(len(data) <= limit, "limit", f"{what} is longer than {limit} bytes")
    return data


# ---- §4.1: the repository identity R.

PIN = re.compile(r"^# (?:hah-vault )?repository: ([0-9a-f]{32})$", re.MULTILINE)


def identities_in(text):
    return [line.strip() for line in text.splitlines() if line.strip().upper().startswith("AGE-SECRET-KEY-1")]


def find_identity(repository, options):
    """The text and the bytes of R: from the identity file itself, or from a copy in keys/ that it opens."""
    text = options.identity.read_bytes().decode(errors="replace") if options.identity else ""
    pins = {options.repository} if options.repository else set(PIN.findall(text))
    if len(pins) > 1:
        raise Failure("the identity file names several repositories", "choose one with --repository")
    for line in identities_in(text):
        if repository_id(parse_identity(line)).hex() in pins:
            return line, parse_identity(line)
    copies = [options.key] if options.key else sorted((repository / "keys").glob("*.age"))
    problems = []
    for path in copies:
        what = f"key {path.name}"
        header = read_object(path, KEY_OBJECT_MAX, what)
        if options.identity is None and not header.startswith(b"age-encryption.org/v1\n-> scrypt "):
            continue
        given = ["-i", str(options.identity)] if options.identity else []
        try:
            opened = run(["age", "-d", *given, str(path)], what, b"", KEY_OBJECT_MAX, "AGE-PLUGIN-" in text)
            return checked_identity(opened.decode(errors="replace"), what, pins)
        except Failure as failure:
            problems.append(str(failure))
    raise Failure("no key in keys/ opens: " + ("; ".join(problems) or "there is none that fits"),
                  "give the identity of a reader, or with --key a copy kept elsewhere", code=12)


def checked_identity(text, what, pins):
    lines = identities_in(text)
    if len(lines) != 1:
        raise Failure(f"{what} holds {len(lines)} identities instead of one")
    identity = parse_identity(lines[0])
    found = repository_id(identity).hex()
    if not pins:
        raise Failure(f"{what} is of repository {found}, but nothing says that this is the one",
                      f"if you know that it is, add --repository {found}")
    if found not in pins:
        raise Failure(f"{what} is of repository {found}, not of {pins.pop()}",
                      "somebody may have put another repository in its place")
    return lines[0], identity


# ---- §9: reading.

def open_pack(data, name, plaintext_len, identity_text, what):
    """The plaintext of a pack object (§8.1)."""
    need(blake3(data).hex() == name, "tag", f"{what} is damaged or another one: its BLAKE3 is not its name")
    # The bytes that were hashed, not the file once more: it could have changed.
    with tempfile.NamedTemporaryFile() as copy:
        copy.write(data)
        copy.flush()
        framed = age_open(copy.name, identity_text, what, PACK_OBJECT_MAX)
    return unzstd(unpad(framed, plaintext_len), plaintext_len, what)


class Packs:
    """Opens packs, each checked against the manifest, and keeps the last few."""

    def __init__(self, repository, identity_text, packs):
        self.repository, self.identity_text, self.packs, self.cache = repository, identity_text, packs, {}

    def plaintext(self, number):
        if number not in self.cache:
            if len(self.cache) >= CACHED_PACKS:
                del self.cache[next(iter(self.cache))]
            self.cache[number] = self.open(*self.packs[number])
        self.cache[number] = self.cache.pop(number)  # the last one used is the last one dropped
        return self.cache[number]

    def open(self, name, object_len, plaintext_len):
        what, path = f"pack {name}", self.repository / "packs" / name
        data = read_object(path, PACK_OBJECT_MAX, what)
        need(len(data) == object_len, "inconsistent", f"{what} has {len(data)} bytes instead of {object_len}")
        return open_pack(data, name, plaintext_len, self.identity_text, what)

    def bytes_of(self, extents):
        for number, offset, length in extents:
            yield self.plaintext(number)[offset : offset + length]


def is_from_the_future(path):
    """Whether a manifest claims a later time than it was put at, and than it is now (§2.3)."""
    try:
        claimed = parse_time(path.name.split("-")[0])
    except FormatError:
        return True  # a 13th month never comes
    return claimed > max(path.stat().st_mtime, time.time()) + CLOCK_TOLERANCE


def find_manifest(repository, text):
    """The name of a manifest, and where it lies: in manifests/, or in the trash as long as it is there."""
    if text.endswith("@latest"):
        source = check_source(text[: -len("@latest")])
        folder = repository / "manifests" / source
        # Of one second, the one that was put last (§2.3).
        order = lambda path: (path.name.split("-")[0], path.stat().st_mtime_ns, path.name)
        paths = sorted(folder.iterdir(), key=order) if folder.is_dir() else []
        paths = [path for path in paths if re.match(r"[0-9]{8}T[0-9]{6}Z-[0-9a-f]{8}\Z", path.name)]
        if not paths:
            raise Failure(f"there is no manifest of {source}")
        present = [path for path in paths if not is_from_the_future(path)]
        if len(present) < len(paths):
            print(f"warning: {len(paths) - len(present)} manifests of {source} claim a time that has not come yet",
                  file=sys.stderr)
        text = f"{source}/{(present or paths)[-1].name}"
    source, _, _ = parse_manifest_name(text)
    path = repository / "manifests" / text
    in_trash = sorted((repository / "trash" / source).glob(f"{text.split('/')[1]}.*"))
    return source, text, path if path.exists() or not in_trash else in_trash[-1]


def keystore_tar(manifest, identity_text):
    """The tar of Nomad's key files, sealed like a pack in labels of the manifest (§15.1)."""
    labels = dict(manifest["labels"])
    if "keystore" not in labels:
        raise Failure(f"manifest {manifest['name']} has no keystore with it")
    name, _, length = labels["keystore"].partition(" ")
    parts = [value for key, value in sorted(labels.items()) if re.match(r"keystore-[0-9]{2}\Z", key)]
    try:
        plaintext_len, data = int(length), b"".join(base64.b64decode(part, validate=True) for part in parts)
    except ValueError:
        raise FormatError("inconsistent", "the labels of the keystore cannot be read") from None
    need(0 < plaintext_len <= KEYSTORE_MAX, "limit", "the keystore is too long")
    return open_pack(data, name, plaintext_len, identity_text, "the keystore")


def write_keystore(target, tar):
    if os.path.exists(target):
        raise Failure(f"{target} is there already", "choose another file with --keystore")
    with open(target, "xb") as file:
        file.write(tar)
        os.fsync(file.fileno())


def restore(options):
    repository = options.repository_dir
    if not (repository / "packs").is_dir() or not (repository / "manifests").is_dir():
        raise Failure(f"{repository} is not a repository: it has no packs/ and manifests/", code=10)
    identity_text, identity = find_identity(repository, options)
    source, name, path = find_manifest(repository, options.manifest)
    what = f"manifest {name}"
    read_object(path, MANIFEST_MAX + AGE_OVERHEAD_MAX, what)
    envelope = age_open(path, identity_text, what, MANIFEST_MAX)
    manifest = parse_manifest(envelope, manifest_tag_key(identity, source), name)
    packs = Packs(repository, identity_text, manifest["packs"])
    if options.keystore:
        write_keystore(options.keystore, keystore_tar(manifest, identity_text))

    target, folder = output_of(options, manifest)
    temporary = []

    def new_file():
        file = tempfile.NamedTemporaryFile("w+b", dir=folder, prefix=".hah-vault-", delete=False)  # mode 0600
        temporary.append(file.name)
        return file

    try:
        with new_file() as stream, new_file() as other:
            blocks = packs.bytes_of(manifest["extents"])
            if manifest["regions"] is not None:
                other.writelines(blocks)
                other.seek(0)
                notes = b"".join(packs.bytes_of(manifest["notes"]))
                blocks = undo_map_order(other, manifest["regions"], notes)
            exact = write_checked(stream, blocks, manifest)
            result = stream
            if options.gzip and manifest["original"][0]:
                other.seek(0)
                other.truncate()
                exact = write_gzip(stream, other, manifest)
                result = other
            deliver(result, target)
    finally:
        for name_of_temporary in temporary:
            if os.path.exists(name_of_temporary):
                os.unlink(name_of_temporary)
    print(f"restored {name}: {manifest['stream'][0]} bytes of stream, all checks passed; "
          f"{'the same bytes as' if exact else 'equivalent to, not the same bytes as,'} the original", file=sys.stderr)


def output_of(options, manifest):
    """The file to write and the folder of the temporary ones."""
    if options.output == "-":
        return None, None
    suffix = "" if manifest["kind"] == "other" else ".snap" if options.gzip else ".tar"
    target = Path(options.output or manifest["name"].replace("/", "-") + suffix)
    if target.exists():
        raise Failure(f"{target} is there already", "choose another file with -o")
    return target, target.parent


def write_checked(file, blocks, manifest):
    """Writes the stream and checks its length, BLAKE3 and SHA256SUMS. True if it is the original by its SHA-256."""
    stream_hash, original_hash, length = Blake3(), hashlib.sha256(), 0
    for block in blocks:
        file.write(block)
        stream_hash.update(block)
        original_hash.update(block)
        length += len(block)
    need([length, stream_hash.digest().hex()] == manifest["stream"], "tag", "the stream is not the one that was stored")
    exact = original_hash.hexdigest() == manifest["original"][2]
    need(exact or manifest["original"][0], "tag", "the stream is not the original, though it had no wrapper")
    if manifest["kind"] != "other":
        file.seek(0)
        check_sums(file)
    return exact


def check_sums(file):
    """SHA256SUMS of a Raft snapshot names meta.json and state.bin, and nothing else."""
    found, sums = {}, {}
    try:
        with tarfile.open(fileobj=file, mode="r:") as archive:
            for member in archive:
                content, digest = archive.extractfile(member), hashlib.sha256()
                if member.name == "SHA256SUMS":
                    lines = content.read(8192).decode("ascii").splitlines()
                    sums = {name: digest for digest, name in (line.split("  ", 1) for line in lines)}
                elif member.name in ("meta.json", "state.bin"):
                    while block := content.read(MIB):
                        digest.update(block)
                    found[member.name] = digest.hexdigest()
    except (tarfile.TarError, ValueError, AttributeError) as error:
        raise FormatError("inconsistent", f"the tar of the snapshot cannot be read: {error}") from None
    need(len(found) == 2 and found == sums, "inconsistent", "SHA256SUMS of the snapshot does not agree with its members")


def write_gzip(stream, file, manifest):
    """Any gzip will do for the servers; the original's bytes would take Go's own compressor."""
    stream.seek(0)
    with gzip.GzipFile("", "wb", 6, file, mtime=0) as wrapped:
        while block := stream.read(MIB):
            wrapped.write(block)
    file.seek(0)
    digest = hashlib.sha256()
    while block := file.read(MIB):
        digest.update(block)
    return digest.hexdigest() == manifest["original"][2]


def deliver(file, target):
    """Gives the checked file its name; standard output gets it only now."""
    file.flush()
    if target:
        os.fsync(file.fileno())
        try:
            os.link(file.name, target)  # unlike rename, never over a file that has appeared meanwhile
        except FileExistsError:
            raise Failure(f"{target} is there already", "choose another file with -o") from None
        except OSError:
            os.replace(file.name, target)  # a file system without hard links
    else:
        file.seek(0)
        while block := file.read(MIB):
            sys.stdout.buffer.write(block)
        sys.stdout.buffer.flush()


# ---- Self-test: the vectors that hah-vault's own tests run (§14).

# As in github.com/BLAKE3-team/BLAKE3, test_vectors/test_vectors.json.
BLAKE3_KEY = b"whats the Elvish word for friend"
BLAKE3_CONTEXT = "BLAKE3 2019-12-27 16:29:52 test vectors context"


# The example of §7.7.
MAP_ORDER_STREAM = "80 0783a16101a16201a16301 0783a16201a16301a16101 0783a16201a16101a16301 0782a16101a16102"
MAP_ORDER_STORED = "80 0783a16101a16201a16301 0783a16101a16201a16301 0783a16101a16201a16301 0782a16101a16102"


def self_test(folder):
    assert blake3(b"").hex() == "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"
    stored = bytes.fromhex(MAP_ORDER_STORED)
    restored = b"".join(undo_map_order(io.BytesIO(stored), [(1, 41)], bytes.fromhex("bbd4acaa00")))
    assert restored.hex() == MAP_ORDER_STREAM.replace(" ", ""), restored.hex()
    listed = json.loads((folder / "vectors.json").read_text())
    identity, wrong, ran, skipped = bytes.fromhex(listed["identity"]), [], 0, {}
    for vector in listed["vectors"]:
        try:
            found, value = "ok", run_vector(vector, folder, identity)
        except FormatError as error:
            found, value = error.kind, None
        except NotImplementedError:
            skipped[vector["type"]] = skipped.get(vector["type"], 0) + 1
            continue
        ran += 1
        if found != vector["expect"] or value != vector.get("value", value):
            wrong.append(f"{vector['type']} {vector['name']}: expected {vector['expect']}, found {found} {value}")
    rest = ", ".join(f"{number} {kind}" for kind, number in skipped.items())
    print("\n".join(wrong + [f"{ran} vectors, {len(wrong)} wrong; not needed to restore and left out: {rest}"]))
    return 1 if wrong or not ran else 0


def run_vector(vector, folder, identity):
    kind, text = vector["type"], vector.get("text")
    data = (folder / vector["file"]).read_bytes() if "file" in vector else bytes.fromhex(vector.get("hex", ""))
    if kind == "derive":
        secret = source_secret(identity, "vault")
        chunk_id = keyed_blake3(derive_key(context("chunk id key"), secret), b"abc")[:16]
        last_gear = derive_key(context("gear table"), secret, 2048)[2040:]
        words = repository_id(identity).hex(), chunk_id.hex(), f"{int.from_bytes(last_gear, 'little'):016x}"
        need(" ".join(words) == data.decode().strip(), "key", "the derivation is another one")
        return None
    if kind == "blake3":
        data = (bytes(range(251)) * (int(text) // 251 + 1))[: int(text)]
        keyed = Blake3(words_of(BLAKE3_KEY), KEYED_HASH).update(data)
        digests = Blake3().update(data).digest(131), keyed.digest(131), derive_key(BLAKE3_CONTEXT, data, 131)
        return [digest.hex() for digest in digests]
    if kind == "source-name":
        return check_source(text) and None
    if kind == "time":
        return parse_time(text)
    if kind == "manifest-name":
        return dict(zip(("source", "unix_s", "suffix"), parse_manifest_name(text)))
    if kind in ("object-name", "repository-id"):
        return parse_hex(text, 32 if kind == "object-name" else 16) and None
    if kind == "identity":
        return parse_identity(text).hex()
    if kind == "padme":
        return padme(int(text))
    if kind == "codec":
        return run_codec(vector["codec"], data)
    if kind == "extents":
        packs = [["", 0, length] for length in vector["packs"]]
        reader = Reader(data)
        extents = resolve(read_extents(reader), packs)
        reader.end()
        used = len({extent[0] for extent in extents}) == len(packs)
        fits = sum(extent[2] for extent in extents) == vector["stream_len"]
        need(used and fits, "inconsistent", "a pack is not used, or the stream has another length")
        return extents
    if kind == "envelope":
        return open_envelope(data, manifest_tag_key(identity, vector["source"]), vector["logical_name"]).hex()
    if kind == "manifest":
        name = vector["manifest"]
        return parse_manifest(data, manifest_tag_key(identity, name.split("/")[0]), name)
    if kind == "pack":
        frame = unpad(data, vector["plaintext_len"])
        plaintext = unzstd(frame, vector["plaintext_len"], "the vector")
        return {"frame_len": len(frame), "plaintext_blake3": blake3(plaintext).hex()}
    raise NotImplementedError(kind)


def run_codec(codec, data):
    r = Reader(data)
    value = {
        "u8": lambda: r.take(1)[0],
        "u32": lambda: r.uint(32),
        "u64": r.uint,
        "i64": r.int,
        "text": r.text,
        "blob": lambda: r.bytes().hex(),
        "list-u32": lambda: r.list(lambda: r.uint(32)),
        "option-u32": lambda: r.option(lambda: r.uint(32)),
        "array4": lambda: r.take(4).hex(),
        "kind": lambda: r.variant(KINDS),
    }[codec]()
    r.end()
    return value


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("repository_dir", type=Path, nargs="?", metavar="REPOSITORY", help="local copy of the bucket")
    parser.add_argument("manifest", nargs="?", metavar="MANIFEST", help="a full name, or SOURCE@latest")
    parser.add_argument("-i", "--identity", type=Path, help="age identity file of a reader, SSH key, or R itself")
    parser.add_argument("--passphrase", action="store_true", help="open a copy of R that has a passphrase")
    parser.add_argument("--key", type=Path, help="a copy of R that is kept outside the repository")
    parser.add_argument("--repository", metavar="ID", help="repository id, where the identity file does not name it")
    parser.add_argument("-o", "--output", help="file to write; - is standard output")
    parser.add_argument("--keystore", metavar="FILE", help="also write Nomad's key files, as a tar, where there are any")
    parser.add_argument("--gzip", action="store_true", help="wrap the tar of a Raft snapshot as the servers want it")
    parser.add_argument("--self-test", action="store_true", help="run the vectors in vectors/v1 beside this file")
    options = parser.parse_args()
    if options.self_test:
        return self_test(Path(__file__).parent / "vectors" / "v1")
    if not options.repository_dir or not options.manifest:
        parser.error("REPOSITORY and MANIFEST are needed")
    if (options.identity is None) != options.passphrase:
        parser.error("either --identity or --passphrase is needed")
    os.umask(0o077)
    try:
        restore(options)
    except Failure as failure:
        print(f"error: {failure}", file=sys.stderr)
        if failure.hint:
            print(f"hint: {failure.hint}", file=sys.stderr)
        return failure.code
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
