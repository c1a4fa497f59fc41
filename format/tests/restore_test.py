"""Tests restore.py on a small repository made here, with the real age and zstd: python3 format/tests/restore_test.py"""
import gzip
import hashlib
import io
import json
import os
import random
import shutil
import subprocess
import sys
import tarfile
import tempfile
import unittest
from pathlib import Path

HERE = Path(__file__).parent
SCRIPT = HERE.parent / "restore.py"
sys.path.insert(0, str(HERE.parent))
sys.dont_write_bytecode = True
import restore  # noqa: E402

NAME = "vault/20261122T153000Z-1a2b3c4d"


# A small encoder (SPEC §3).
def uint(n):
    return bytes([n]) if n <= 250 else b"".join(
        bytes([marker]) + n.to_bytes(width, "little")
        for marker, width in ((251, 2), (252, 4), (253, 8))
        if 1 << width * 4 <= max(n, 1 << 8) < 1 << width * 8)


def blob(data):
    return uint(len(data)) + data


def items(parts):
    return uint(len(parts)) + b"".join(parts)


def extents(triples):
    ends, parts = {}, []
    for pack, offset, length in triples:
        delta = offset - ends.get(pack, 0)
        parts.append(uint(pack) + uint(delta << 1 if delta >= 0 else ~(delta << 1)) + uint(length))
        ends[pack] = offset + length
    return items(parts)


def snapshot(state, sums_of=None):
    meta = b'{"Version":1,"Index":62,"Term":2}\n'
    sums = {"meta.json": meta, "state.bin": sums_of or state}
    listed = "".join(f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in sums.items()).encode()
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, data in (("meta.json", meta), ("state.bin", state), ("SHA256SUMS", listed)):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return file.getvalue()


def command(*parts, data=b""):
    return subprocess.run(parts, input=data, capture_output=True, check=True).stdout


def identity():
    text = command("age-keygen").decode().splitlines()[-1]
    return text, command("age-keygen", "-y", data=text.encode()).decode().strip()


class Repository:
    """One manifest over two packs, the second of which is used twice."""

    def __init__(self, folder, stream, kind=2, wrapper=2, version=1, transform=None, name=NAME, stream_hash=None):
        self.folder, self.stream, self.name = folder, stream, name
        self.secret_text, self.recipient = identity()
        self.secret = restore.parse_identity(self.secret_text)
        self.id = restore.repository_id(self.secret).hex()
        for part in ("packs", "manifests/vault", "keys", "index"):
            (folder / part).mkdir(parents=True)
        third = len(stream) // 3
        head, middle, tail = stream[:third], stream[third : 2 * third], stream[2 * third :]
        packs = [self.pack(b"unused" + head + tail), self.pack(middle + b"unused")]
        original = gzip.compress(stream, mtime=0) if wrapper else stream
        triples = [(0, 6, third), (1, 0, third), (0, 6 + third, len(tail))]
        body = b"".join([
            uint(1), blob(b"vault"), uint(1_795_361_400), uint(0x1A2B3C4D), uint(kind), blob(b"host"), blob(b"tool"),
            b"\0", b"\0", items([]), uint(wrapper), uint(len(original)), hashlib.sha256(original).digest(),
            uint(len(stream)), stream_hash or restore.blake3(stream), transform or uint(0), uint(2048), uint(0),
            items(packs), extents(triples), items([]), uint(0) * 4])
        head = b"HAHVMANF" + version.to_bytes(2, "little")
        logical = f"manifest/{NAME}".encode()
        key = restore.manifest_tag_key(self.secret, "vault")
        length = len(body).to_bytes(8, "little")
        tag = restore.keyed_blake3(key, head + len(logical).to_bytes(8, "little") + logical + length + body)
        sealed = head + tag + length + body
        sealed += bytes(restore.padme(len(sealed)) - len(sealed))
        (folder / "manifests" / name).write_bytes(command("age", "-r", self.recipient, data=sealed))
        reader_text, reader = identity()
        inner = f"# hah-vault repository identity\n# repository: {self.id}\n{self.secret_text}\n"
        (folder / "keys" / "reader.age").write_bytes(command("age", "-r", reader, data=inner.encode()))
        other = identity()[1]
        (folder / "keys" / "another.age").write_bytes(command("age", "-r", other, data=b"not for us"))
        self.identity = folder.parent / "identity.txt"
        self.identity.write_text(f"# hah-vault repository: {self.id}\n{reader_text}\n")
        self.reader_text = reader_text

    def pack(self, plaintext):
        size = f"--stream-size={len(plaintext)}"
        frame = command("zstd", "-q", "-3", "--no-check", size, "-c", data=plaintext)
        total = restore.padme(len(frame) + 8)
        zeros = total - len(frame) - 8
        data = frame + b"\x50\x2a\x4d\x18" + zeros.to_bytes(4, "little") + bytes(zeros)
        sealed = command("age", "-r", self.recipient, data=data)
        name = restore.blake3(sealed)
        (self.folder / "packs" / name.hex()).write_bytes(sealed)
        return name + uint(len(sealed)) + uint(len(plaintext))

    def packs(self):
        return sorted((self.folder / "packs").iterdir())


class RestoreTest(unittest.TestCase):
    def setUp(self):
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)
        self.out = self.folder / "out"
        self.out.mkdir()
        random.seed(1)
        self.stream = snapshot(random.randbytes(200_000) + b"words " * 50_000)

    def make(self, stream=None, **options):
        return Repository(self.folder / "repository", stream or self.stream, **options)

    def restore(self, repository, *options, manifest=NAME, identity=None):
        given = ["--identity", str(identity or repository.identity)]
        parts = [sys.executable, str(SCRIPT), *given, str(repository.folder), manifest, *options]
        return subprocess.run(parts, capture_output=True, cwd=self.out)

    def refused(self, repository, code, words, *options, **named):
        done = self.restore(repository, "-o", "x", *options, **named)
        self.assertEqual(done.returncode, code, done.stderr.decode())
        self.assertIn(words, done.stderr.decode())
        self.assertNotIn("Traceback", done.stderr.decode())
        self.assertEqual(list(self.out.iterdir()), [], "something was left behind")

    def test_a_snapshot_comes_back(self):
        repository = self.make()
        for manifest in (NAME, "vault@latest"):
            done = self.restore(repository, "-o", "x.tar", manifest=manifest)
            self.assertEqual(done.returncode, 0, done.stderr.decode())
            self.assertEqual([path.name for path in self.out.iterdir()], ["x.tar"])
            self.assertEqual((self.out / "x.tar").read_bytes(), self.stream)
            self.assertEqual((self.out / "x.tar").stat().st_mode & 0o777, 0o600)
            (self.out / "x.tar").unlink()
        done = self.restore(repository, "-o", "-")
        self.assertEqual((done.returncode, done.stdout), (0, self.stream))

    def test_a_pack_opens_by_hand(self):
        """The commands of SPEC §17."""
        repository = self.make()
        key = repository.folder / "keys" / "reader.age"
        r_file = self.folder / "R.txt"
        r_file.write_bytes(command("age", "-d", "-i", str(repository.identity), str(key)))
        script = 'age -d -i "$0" "$1" | zstd -dc > "$2/p" && tail -c +7 "$2/p" | head -c "$3"'
        third = len(self.stream) // 3
        parts = [command("sh", "-c", script, str(r_file), str(path), str(self.folder), str(third))
                 for path in repository.packs()]
        self.assertIn(self.stream[:third], parts)

    def test_gzip_wraps_and_the_name_is_made(self):
        self.assertEqual(self.restore(self.make(), "--gzip").returncode, 0)
        data = (self.out / (NAME.replace("/", "-") + ".snap")).read_bytes()
        self.assertEqual(gzip.decompress(data), self.stream)

    def test_any_bytes_come_back(self):
        stream = random.randbytes(9000)
        repository = self.make(stream, kind=0, wrapper=0)
        done = self.restore(repository, "--gzip", "-o", "x")
        self.assertEqual(done.returncode, 0, done.stderr.decode())
        self.assertEqual((self.out / "x").read_bytes(), stream)
        self.assertIn("the same bytes as the original", done.stderr.decode())

    def test_r_itself_opens_and_a_copy_outside_too(self):
        repository = self.make()
        exported = self.folder / "exported.txt"
        exported.write_text(f"# repository: {repository.id}\n{repository.secret_text}\n")
        kept = shutil.copy(repository.folder / "keys" / "reader.age", self.folder / "kept.age")
        shutil.rmtree(repository.folder / "keys")
        self.assertEqual(self.restore(repository, "-o", "1", identity=exported).returncode, 0)
        self.assertEqual(self.restore(repository, "-o", "2", "--key", str(kept)).returncode, 0)

    def test_a_file_that_is_there_is_not_touched(self):
        repository = self.make()
        (self.out / "x").write_bytes(b"mine")
        self.assertEqual(self.restore(repository, "-o", "x").returncode, 1)
        self.assertEqual((self.out / "x").read_bytes(), b"mine")

    def test_another_reader_is_refused(self):
        repository = self.make()
        repository.identity.write_text(f"# hah-vault repository: {repository.id}\n{identity()[0]}\n")
        self.refused(repository, 12, "no key in keys/ opens")

    def test_another_repository_in_its_place_is_refused(self):
        repository = self.make()
        repository.identity.write_text(f"# hah-vault repository: {'0' * 32}\n{repository.reader_text}\n")
        self.refused(repository, 12, "not of 0000")

    def test_without_a_pin_the_id_must_be_given(self):
        repository = self.make()
        repository.identity.write_text(repository.reader_text + "\n")
        self.refused(repository, 12, "nothing says that this is the one")
        self.assertEqual(self.restore(repository, "-o", "x", "--repository", repository.id).returncode, 0)

    def test_damaged_missing_and_swapped_packs_are_refused(self):
        repository = self.make()
        first, second = repository.packs()
        good = first.read_bytes()
        for data in (good[:-1], good + b"\0", bytes([good[0] ^ 1]) + good[1:], good[:-1] + bytes([good[-1] ^ 1]),
                     second.read_bytes(), b"", bytes(11 << 20)):
            first.write_bytes(data)
            self.refused(repository, 1, f"pack {first.name}")
        first.unlink()
        self.refused(repository, 1, f"pack {first.name} is missing")

    def test_a_manifest_under_another_name_is_refused(self):
        self.refused(self.make(name="vault/20261122T153001Z-1a2b3c4d"), 1, "not authentic",
                     manifest="vault/20261122T153001Z-1a2b3c4d")

    def test_a_damaged_manifest_is_refused(self):
        repository = self.make()
        path = repository.folder / "manifests" / NAME
        path.write_bytes(path.read_bytes()[:-1])
        self.refused(repository, 1, f"manifest {NAME}")

    def test_a_manifest_in_the_trash_is_found(self):
        repository = self.make()
        trash = repository.folder / "trash" / (NAME + ".20261123T153000Z-5e6f7a8b")
        trash.parent.mkdir(parents=True)
        (repository.folder / "manifests" / NAME).rename(trash)
        self.assertEqual(self.restore(repository, "-o", "x").returncode, 0)

    def test_a_newer_format_is_called_newer(self):
        self.refused(self.make(version=2), 13, "newer than this program")

    def test_a_wrong_stream_hash_and_wrong_sums_are_refused(self):
        self.refused(self.make(stream_hash=bytes(32)), 1, "not the one that was stored")
        shutil.rmtree(self.folder / "repository")
        self.refused(self.make(snapshot(b"abc" * 999, sums_of=b"xyz")), 1, "SHA256SUMS")
        shutil.rmtree(self.folder / "repository")
        self.refused(self.make(random.randbytes(3000)), 1, "the tar of the snapshot")

    def test_no_repository_and_bad_names(self):
        repository = self.make()
        self.refused(repository, 1, "is not the name of a manifest", manifest="vault")
        self.refused(repository, 1, "there is no manifest of consul", manifest="consul@latest")
        shutil.rmtree(repository.folder / "packs")
        self.refused(repository, 10, "is not a repository")

    def test_the_self_test_passes(self):
        done = subprocess.run([sys.executable, str(SCRIPT), "--self-test"], capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)


if __name__ == "__main__":
    os.umask(0o022)
    unittest.main()
