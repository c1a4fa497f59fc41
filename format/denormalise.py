#!/usr/bin/env python3
"""Independent inverse, written from format/transform-notes.md. usage: denorm.py NORMAL NOTES OUT OFFSET:LEN..."""
import sys

RECORD_LEN_MAX = 1 << 20
DEPTH_MAX = 128
M64 = (1 << 64) - 1

class Prob:
    __slots__ = ("p", "seen")
    def __init__(self): self.p, self.seen = 32768, 0

class Coder:
    def __init__(self, notes): self.notes, self.at, self.code, self.range = notes, 0, None, 0xFFFFFFFF
    def byte(self):
        if self.at >= len(self.notes): raise ValueError("notes too short")
        self.at += 1
        return self.notes[self.at - 1]
    def start(self):
        if self.code is None: self.code = int.from_bytes(bytes(self.byte() for _ in range(4)), "big")
    def refill(self):
        while self.range < 1 << 24:
            self.range <<= 8
            self.code = self.code << 8 & 0xFFFFFFFF | self.byte()
    def bit(self, x):
        self.start()
        split = (self.range >> 16) * x.p
        rate = x.seen + 2
        bit = self.code < split
        if bit: self.range = split; x.p += (65536 - x.p) // rate
        else: self.code -= split; self.range -= split; x.p -= x.p // rate
        x.p = max(32, min(65504, x.p)); x.seen = min(126, x.seen + 1)
        self.refill()
        return bit
    def choice(self, n):
        self.start()
        share = self.range // n
        v = self.code // share
        if v >= n: raise ValueError("corrupt notes")
        self.code -= v * share; self.range = share
        self.refill()
        return v

def key_hash(k):
    h = len(k)
    for i in range(0, len(k), 8):
        h = ((h ^ int.from_bytes(k[i:i+8], "little")) * 0x9E3779B97F4A7C15) & M64
        h ^= h >> 32
    return h

class Inverse:
    def __init__(self, notes):
        self.c = Coder(notes); self.young = {}; self.old = {}; self.used = 0
        self.as_is = Prob(); self.sorted = Prob(); self.tables = {}
    def prob(self, *k):
        return self.tables.setdefault(k, Prob())
    def perm(self, n):
        p = list(range(n))
        for i in range(n - 1):
            j = i + self.c.choice(n - i)
            p[i], p[j] = p[j], p[i]
        return p
    def order(self, h, n):
        if len(self.young) >= 4096 or self.used >= 1 << 20:
            self.old, self.young, self.used = self.young, {}, 0
        k = (h, n)
        if k not in self.young and k in self.old:
            self.young[k] = self.old.pop(k); self.used += n * len(self.young[k][1])
        s = self.young.get(k)
        if s is None:
            srt = self.c.bit(self.sorted)
            o = list(range(n)) if srt else self.perm(n)
            if n <= 256:
                r = o.index(0); self.young[k] = [srt, [[o[r:] + o[:r], r, 1]]]; self.used += n
            return o
        steady, cycles = s
        size = min(n - 2, 7)
        i = 0
        if n > 2:
            while i < len(cycles) and self.c.bit(self.prob("cycle", steady, size, i)): i += 1
        if i == len(cycles):
            o = self.perm(n); r = o.index(0)
            s[0] = False; del cycles[3:]; cycles.insert(0, [o[r:] + o[:r], r, 1]); self.used += n
            return o
        cyc, r, conf = c = cycles[i]
        if self.c.bit(self.prob("expected", steady, size, min(conf, 4))): c[2] = min(255, conf + 1)
        else:
            v = self.c.choice(n - 1); e = r; r = v + (v >= e)
            s[0] = False
            if conf == 0: c[1], c[2] = r, 1
            else: c[2] = conf - 1
        cycles.insert(0, cycles.pop(i))
        return cyc[n - r:] + cyc[:n - r]
    # one value of b at p: (restored bytes, end)
    def value(self, b, p, depth):
        s = p; c = b[p]; p += 1
        def num(w):
            return int.from_bytes(b[p:p+w], "big")
        if c < 0x80 or c >= 0xE0 or c in (0xC0, 0xC2, 0xC3): e = p
        elif 0xA0 <= c < 0xC0: e = p + (c & 31)
        elif c in (0xC4, 0xD9): e = p + 1 + num(1)
        elif c in (0xC5, 0xDA): e = p + 2 + num(2)
        elif c in (0xC6, 0xDB): e = p + 4 + num(4)
        elif c == 0xC7: e = p + 2 + num(1)
        elif c == 0xC8: e = p + 3 + num(2)
        elif c == 0xC9: e = p + 5 + num(4)
        elif 0xD4 <= c <= 0xD8: e = p + 1 + (1 << (c - 0xD4))
        elif 0xCA <= c <= 0xD3: e = p + {0xCA:4,0xCB:8,0xCC:1,0xCD:2,0xCE:4,0xCF:8,0xD0:1,0xD1:2,0xD2:4,0xD3:8}[c]
        else:
            if depth == DEPTH_MAX and c not in (0x80, 0x90): raise ValueError("too deep")
            if c < 0x90: n, m = c & 15, True
            elif c < 0xA0: n, m = c & 15, False
            elif c in (0xDC, 0xDD): w = 2 if c == 0xDC else 4; n, m = num(w), False; p += w
            elif c in (0xDE, 0xDF): w = 2 if c == 0xDE else 4; n, m = num(w), True; p += w
            else: raise ValueError("0xc1")
            out = [b[s:p]]
            if not m:
                for _ in range(n):
                    v, p = self.value(b, p, depth + 1); out.append(v)
                return b"".join(out), p
            entries = []; h = 0
            for _ in range(n):
                k, p = self.value(b, p, depth + 1)
                h = (h + key_hash(k)) & M64
                v, p = self.value(b, p, depth + 1); entries.append(k + v)
            if n > 1: entries = [entries[i] for i in self.order(h, n)]
            return b"".join(out + entries), p
        if e > len(b): raise ValueError("cut")
        return b[s:e], e

def skip(b, p):
    left = 1
    while left:
        left -= 1; c = b[p]; p += 1
        def num(w): return int.from_bytes(b[p:p+w], "big")
        if c < 0x80 or c >= 0xE0 or c in (0xC0, 0xC2, 0xC3): pass
        elif c < 0x90: left += 2 * (c & 15)
        elif c < 0xA0: left += c & 15
        elif c < 0xC0: p += c & 31
        elif c in (0xC4, 0xD9): p += 1 + num(1)
        elif c in (0xC5, 0xDA): p += 2 + num(2)
        elif c in (0xC6, 0xDB): p += 4 + num(4)
        elif c == 0xC7: p += 2 + num(1)
        elif c == 0xC8: p += 3 + num(2)
        elif c == 0xC9: p += 5 + num(4)
        elif 0xD4 <= c <= 0xD8: p += 1 + (1 << (c - 0xD4))
        elif 0xCA <= c <= 0xD3: p += {0xCA:4,0xCB:8,0xCC:1,0xCD:2,0xCE:4,0xCF:8,0xD0:1,0xD1:2,0xD2:4,0xD3:8}[c]
        elif c == 0xDC: left += num(2); p += 2
        elif c == 0xDD: left += num(4); p += 4
        elif c == 0xDE: left += 2 * num(2); p += 2
        elif c == 0xDF: left += 2 * num(4); p += 4
        else: raise ValueError("0xc1")
    return p

def main():
    sys.setrecursionlimit(5000)
    b = open(sys.argv[1], "rb").read(); inv = Inverse(open(sys.argv[2], "rb").read()); out = []; at = 0
    for r in sys.argv[4:]:
        o, n = map(int, r.split(":")); out.append(b[at:o]); at = o; end = o + n
        while at < end:
            try: e = skip(b, at + 1)
            except IndexError: e = end + 1
            if e > end:
                if end - at <= RECORD_LEN_MAX: raise ValueError("region cut")
                e = end
            rec = b[at:e]; at = e
            if len(rec) > RECORD_LEN_MAX or inv.c.bit(inv.as_is): out.append(rec); continue
            v, q = inv.value(rec, 1, 0)
            if q != len(rec): raise ValueError("record")
            out.append(rec[:1] + v)
    out.append(b[at:])
    if inv.c.at != len(inv.c.notes): raise ValueError("notes too long")
    open(sys.argv[3], "wb").write(b"".join(out))
main()
