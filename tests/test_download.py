"""Fetching and verifying data sets, against a server on this machine and archives made here."""

import errno
import hashlib
import random
import re
import socket
import stat
import sys
import threading
import types
import zipfile
from dataclasses import dataclass
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from filelock import FileLock

from mpox._core import MpoxError
from mpox.data import download, integrity, transfer, unpack
from mpox.data.registry import REGISTRY, Archive, DatasetSpec

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
LISTED = sorted(path.stem for path in integrity.CHECKSUMS.glob("*.sha256"))
PICTURES = {name: random.Random(name).randbytes(40_000) for name in ("Mpox/a.png", "Mpox/b.jpg", "Normal/c.png", "Normal/d.JPG")}
PICTURES["Normal/same_as_a.png"] = PICTURES["Mpox/a.png"]


class Handler(BaseHTTPRequestHandler):
    """Serves one file; can cut the connection, refuse ranges, or answer with an error."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        server = self.server
        server.seen.append(dict(self.headers))
        if server.status:
            self.send_error(server.status)
            return
        body, start, wanted = server.body, 0, re.match(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if wanted and server.ranges and self.headers.get("If-Range") in (None, server.etag()):
            start = int(wanted[1])
        if start >= len(body):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(body)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        self.send_header("ETag", server.etag())
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        end = min(len(body), start + server.cut_after) if server.cut_after else len(body)
        self.wfile.write(body[start:end])
        self.close_connection = True

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.body, server.status, server.ranges, server.cut_after, server.seen = b"", None, True, None, []
    server.etag = lambda: f'"{hashlib.sha256(server.body).hexdigest()}"'
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@dataclass(frozen=True)
class LocalArchive(Archive):
    address: str = ""

    @property
    def url(self):
        return self.address


@pytest.fixture
def spec(server, tmp_path, monkeypatch):
    """The registered data set 'tiny', whose mirror has other folders than its list."""
    monkeypatch.setenv("MPOX_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("MPOX_DATA", raising=False)
    monkeypatch.setattr(transfer, "RETRIES", 0)
    monkeypatch.setattr(integrity, "CHECKSUMS", tmp_path / "lists")
    (tmp_path / "lists").mkdir()
    lines = [f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in PICTURES.items()]
    (tmp_path / "lists" / "tiny.sha256").write_text("".join(lines))
    return register(monkeypatch, f"http://127.0.0.1:{server.server_address[1]}/tiny.zip")


def register(monkeypatch, address, name="tiny"):
    archive = LocalArchive("someone/mirror", "0123456789abcdef", "images", address)
    spec = DatasetSpec(
        name=name,
        title="Tiny",
        folder=name,
        folders=("Mpox", "Normal"),
        homepage="https://home",
        archive=archive,
    )
    monkeypatch.setitem(REGISTRY, name, spec)
    return spec


def make_zip(path, members):
    """A zip archive of (name or ZipInfo, content) pairs; returns its bytes."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return path.read_bytes()


def mirror(tmp_path, *, changed=()):
    """The archive as a mirror has it: other folders, other files beside the pictures."""
    members = [("mirror-0123/README.md", b"read me"), ("mirror-0123/images/Extra/x.png", b"not listed")]
    for name, data in PICTURES.items():
        if name != "Normal/same_as_a.png":  # the same bytes are there once, and needed twice
            data = b"other" + data if name in changed else data
            members.append((f"mirror-0123/images/Training/{name.replace('Mpox', 'Monkey_Pox')}", data))
    return make_zip(tmp_path / "mirror.zip", members)


def tree(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def closed_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_fetch_puts_the_listed_pictures_in_place_and_a_second_call_does_nothing(server, spec, tmp_path):
    server.body = mirror(tmp_path)
    said = []
    folder = download.fetch("tiny", say=said.append)
    assert folder == tmp_path / "cache" / "data" / "tiny"
    assert tree(folder) == PICTURES
    assert set(download.verify("tiny")["status"]) == {"ok"}
    assert [path.name for path in folder.parent.iterdir()] == ["tiny"]
    assert [path.suffix for path in (tmp_path / "cache" / "downloads").iterdir()] in ([], [".lock"])
    assert "5 pictures, every one with the listed checksum" in said[-1]
    assert download.fetch("tiny", say=said.append) == folder
    assert "nothing to do" in said[-1]
    assert len(server.seen) == 1


def test_fetch_into_a_named_folder(server, spec, tmp_path):
    server.body = mirror(tmp_path)
    assert download.fetch("tiny", data_dir=tmp_path / "mine", say=str) == tmp_path / "mine" / "tiny"
    assert tree(tmp_path / "mine" / "tiny") == PICTURES


def test_a_cut_download_goes_on_where_it_stopped(server, spec, tmp_path):
    server.body, server.cut_after = mirror(tmp_path), 100_000
    with pytest.raises(MpoxError, match=r"connection was cut \(0\.1 MB that arrived are kept"):
        download.fetch("tiny", say=str)
    part = download.archive_path(spec).with_name(download.archive_path(spec).name + ".part")
    kept = part.stat().st_size
    assert 50_000 < kept <= 100_000
    assert part.read_bytes() == server.body[:kept]
    assert not list((tmp_path / "cache" / "data").iterdir())
    server.cut_after, said = None, []
    assert tree(download.fetch("tiny", say=said.append)) == PICTURES
    assert server.seen[-1]["Range"] == f"bytes={kept}-"
    assert any("Goes on after the 0.1 MB" in line for line in said)


def test_a_cut_download_is_taken_up_within_one_call(server, spec, tmp_path, monkeypatch):
    monkeypatch.setattr(transfer, "RETRIES", 1)
    server.body, server.cut_after = (
        mirror(tmp_path),
        100_000,
    )  # of 160 000: enough for the whole in two pieces
    assert tree(download.fetch("tiny", say=str)) == PICTURES
    first, second = (request.get("Range") for request in server.seen)
    assert first is None
    assert re.fullmatch(r"bytes=[1-9]\d+-", second)


def test_a_server_without_ranges_starts_over_and_says_so(server, spec, tmp_path):
    server.body, server.cut_after, server.ranges = mirror(tmp_path), 100_000, False
    with pytest.raises(MpoxError, match="was cut"):
        download.fetch("tiny", say=str)
    server.cut_after, said = None, []
    assert tree(download.fetch("tiny", say=said.append)) == PICTURES
    assert "The server cannot continue a download: starts over." in said


def test_a_changed_file_on_the_server_is_not_glued_to_the_old_beginning(server, spec, tmp_path):
    server.body, server.cut_after = mirror(tmp_path, changed=["Mpox/b.jpg"]), 100_000
    with pytest.raises(MpoxError, match="was cut"):
        download.fetch("tiny", say=str)
    server.body, server.cut_after = mirror(tmp_path), None
    assert tree(download.fetch("tiny", say=str)) == PICTURES


@pytest.mark.parametrize("surplus", [b"", b"more than the server has"])
def test_a_part_that_is_complete_is_used_and_one_that_is_too_long_is_not(server, spec, tmp_path, monkeypatch, surplus):
    monkeypatch.setattr(transfer, "RETRIES", 1)
    server.body = mirror(tmp_path)
    archive = download.archive_path(spec)
    archive.parent.mkdir(parents=True)
    archive.with_name(archive.name + ".part").write_bytes(server.body + surplus)
    assert tree(download.fetch("tiny", say=str)) == PICTURES
    assert len(server.seen) == (2 if surplus else 1)


def test_wrong_checksums_change_nothing_here(server, spec, tmp_path):
    server.body = mirror(tmp_path, changed=["Mpox/b.jpg"])
    old = tmp_path / "cache" / "data" / "tiny" / "Mpox" / "a.png"
    old.parent.mkdir(parents=True)
    old.write_bytes(b"half a picture")
    with pytest.raises(MpoxError, match=r"1 of the 5 listed pictures .*\(Mpox/b\.jpg\); nothing was changed here"):
        download.fetch("tiny", say=str)
    assert tree(tmp_path / "cache" / "data") == {"tiny/Mpox/a.png": b"half a picture"}
    server.body = mirror(tmp_path)  # the archive was set aside: the next call downloads anew
    assert tree(download.fetch("tiny", say=str)) == PICTURES


@pytest.mark.parametrize("status", [404, 503])
def test_an_error_of_the_server_is_one_sentence(server, spec, status):
    server.status = status
    with pytest.raises(MpoxError, match=rf"the server answered {status} \(.*\) to http.*; try again later, or open"):
        download.fetch("tiny", say=str)


def test_without_network_the_manual_way_is_told_and_works(spec, tmp_path, monkeypatch):
    spec = register(monkeypatch, f"http://127.0.0.1:{closed_port()}/tiny.zip")
    with pytest.raises(MpoxError) as caught:
        download.fetch("tiny", say=str)
    archive = download.archive_path(spec)
    for part in ("cannot reach 127.0.0.1", spec.archive.url, str(archive), "mpox data verify tiny"):
        assert part in str(caught.value)
    archive.write_bytes(mirror(tmp_path))
    assert tree(download.fetch("tiny", say=str)) == PICTURES


def symlink(name, target):
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    return info, target


@pytest.mark.parametrize(
    ("member", "reason"),
    [
        (("../../evil.png", b"x"), "points outside"),
        (("mirror/../../evil.txt", b"x"), "points outside"),
        (("/evil.png", b"x"), "points outside"),
        (("..\\evil.png", b"x"), "points outside"),
        (("C:/evil.png", b"x"), "points outside"),
        (symlink("mirror/evil.png", "/etc/passwd"), "is a link or a device"),
        (("mirror/bomb.png", bytes(5_000_000)), "grows more than 100-fold"),
    ],
)
def test_a_hostile_archive_is_refused_whole(server, spec, tmp_path, member, reason):
    good = [(f"mirror/images/{name}", data) for name, data in PICTURES.items()]
    server.body = make_zip(tmp_path / "evil.zip", [*good, member])
    before = set(tmp_path.rglob("*")) | {tmp_path / "cache"}
    with pytest.raises(MpoxError, match=reason):
        download.fetch("tiny", say=str)
    made = {path.relative_to(tmp_path).as_posix() for path in set(tmp_path.rglob("*")) - before if path.is_file()}
    assert {name for name in made if not name.endswith(".lock")} == {"cache/downloads/rejected-tiny-0123456789ab.zip"}


@pytest.mark.parametrize(("limit", "value"), [("MAX_TOTAL_BYTES", 100_000), ("MAX_FILE_BYTES", 39_999)])
def test_an_archive_larger_than_the_limits_is_refused(server, spec, tmp_path, monkeypatch, limit, value):
    monkeypatch.setattr(unpack, limit, value)
    server.body = mirror(tmp_path)
    with pytest.raises(MpoxError, match="larger than 0 MB"):
        download.fetch("tiny", say=str)


@pytest.mark.parametrize("damage", ["html", "flipped", "short"])
def test_a_damaged_archive_is_refused(server, spec, tmp_path, damage):
    body = mirror(tmp_path)
    flipped = body[:50_000] + bytes([body[50_000] ^ 255]) + body[50_001:]
    server.body = {"html": b"<html>log in", "flipped": flipped, "short": body[:-30]}[damage]
    with pytest.raises(MpoxError, match="not a whole zip archive"):
        download.fetch("tiny", say=str)
    assert not list((tmp_path / "cache" / "data").iterdir())


@pytest.mark.parametrize("trouble", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_stopped_while_unpacking_nothing_half_is_there_and_the_next_call_goes_on(server, spec, tmp_path, monkeypatch, trouble):
    server.body, written, write = mirror(tmp_path), [], download._write

    def stop_at_third(path, content):
        written.append(path)
        if len(written) == 3:
            raise trouble
        write(path, content)

    monkeypatch.setattr(download, "_write", stop_at_third)
    expected = pytest.raises(MpoxError, match="disk .* is full") if isinstance(trouble, OSError) else None
    with expected or pytest.raises(KeyboardInterrupt):
        download.fetch("tiny", say=str)
    assert not list((tmp_path / "cache" / "data").iterdir())
    monkeypatch.setattr(download, "_write", write)
    assert tree(download.fetch("tiny", say=str)) == PICTURES
    assert len(server.seen) == 1  # the archive was kept


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full, a disk that is always full")
def test_a_full_disk_while_downloading_is_one_sentence(server, spec, tmp_path):
    server.body = mirror(tmp_path)
    archive = download.archive_path(spec)
    archive.parent.mkdir(parents=True)
    archive.with_name(archive.name + ".part").symlink_to("/dev/full")
    with pytest.raises(MpoxError, match="is full: make room, then run the same command again"):
        download.fetch("tiny", say=str)


def test_a_damaged_copy_is_replaced_and_kept(server, spec, tmp_path):
    server.body = mirror(tmp_path)
    folder = download.fetch("tiny", say=str)
    (folder / "Mpox" / "a.png").write_bytes(b"damaged")
    leftover = folder.parent / ".tiny.unpacking" / "Mpox" / "junk.png"
    leftover.parent.mkdir(parents=True)
    leftover.write_bytes(b"of a process that was killed")
    assert tree(download.fetch("tiny", say=str)) == PICTURES
    aside = [path for path in folder.parent.iterdir() if path.name.startswith("tiny.replaced-")]
    assert [tree(path)["Mpox/a.png"] for path in aside] == [b"damaged"]
    assert not leftover.exists()


def test_a_damaged_copy_that_would_hide_the_fresh_one_is_an_error(server, spec, tmp_path, monkeypatch):
    server.body = mirror(tmp_path)
    folder = download.fetch("tiny", data_dir=tmp_path / "mine", say=str)
    (folder / "Mpox" / "a.png").unlink()
    monkeypatch.setenv("MPOX_DATA", str(tmp_path / "mine"))
    with pytest.raises(MpoxError, match=r"1 missing \(Mpox/a\.png\); .* would not be found"):
        download.fetch("tiny", say=str)


def test_two_at_once_are_kept_apart(server, spec, tmp_path):
    server.body = mirror(tmp_path)
    lock = tmp_path / "cache" / "downloads" / "tiny.lock"
    lock.parent.mkdir(parents=True)
    with FileLock(lock), pytest.raises(MpoxError, match="Another `mpox data fetch tiny` is running"):
        download.fetch("tiny", say=str)


def test_without_a_list_only_the_class_folders_are_taken(server, spec, tmp_path, monkeypatch):
    register(monkeypatch, REGISTRY["tiny"].archive.url, name="unlisted")
    inside = [(f"mirror-0123/images/{name}", data) for name, data in PICTURES.items()]
    outside = [(f"mirror-0123/{name}.png", b"x") for name in ("images/Augmented/a", "images/a", "Mpox/a")]
    server.body = make_zip(tmp_path / "unlisted.zip", inside + outside)
    said = []
    assert tree(download.fetch("unlisted", say=said.append)) == PICTURES
    assert "5 pictures; there is no list of checksums" in said[-1]
    download.fetch("unlisted", say=said.append)
    assert "no list to check them against" in said[-1]
    with pytest.raises(MpoxError, match="cannot be checked, there is no list of checksums"):
        download.verify("unlisted")
    server.body = make_zip(tmp_path / "empty.zip", outside)
    with pytest.raises(MpoxError, match="no picture in the class folders Mpox, Normal"):
        download.fetch("unlisted", data_dir=tmp_path / "other", say=str)


def kaggle_copy(folder):
    for part, name in (
        ("fold1/Test", "MKP_01_01.jpg"),
        ("fold2/Test", "MKP_02_01.jpg"),
        ("fold1/Train", "MKP_02_01.jpg"),
    ):
        path = folder / "Original Images" / "FOLDS" / part / "Mpox" / name
        path.parent.mkdir(parents=True)
        path.write_bytes(name.encode())
    return folder


def test_kaggle_delivers_the_original_pictures(spec, tmp_path, monkeypatch):
    copy = kaggle_copy(tmp_path / "kaggle" / "versions" / "1")
    (copy / "Augmented Images").mkdir()
    asked = []
    client = types.SimpleNamespace(dataset_download=lambda handle: asked.append(handle) or str(copy))
    monkeypatch.setitem(sys.modules, "kagglehub", client)
    said = []
    folder = download.fetch("msld-v2", say=said.append)
    assert asked == [REGISTRY["msld-v2"].kaggle]
    assert [path.name for path in folder.iterdir()] == ["Original Images"]
    assert len(tree(folder)) == 3
    assert "2 pictures (published: 755)" in said[-1]


def test_kaggle_trouble_is_one_sentence(spec, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "kagglehub", None)  # as if it were not installed
    with pytest.raises(MpoxError, match="pip install kagglehub"):
        download.fetch("msld-v2", say=str)

    def refuse(handle):
        raise RuntimeError("401 Client Error\nand a page of details")

    monkeypatch.setitem(sys.modules, "kagglehub", types.SimpleNamespace(dataset_download=refuse))
    with pytest.raises(MpoxError, match=r"Kaggle did not deliver 'msld-v2' \(401 Client Error\): log in"):
        download.fetch("msld-v2", say=str)
    empty = types.SimpleNamespace(dataset_download=lambda handle: str(tmp_path / "lists"))
    monkeypatch.setitem(sys.modules, "kagglehub", empty)
    with pytest.raises(MpoxError, match="no folder 'FOLDS'"):
        download.fetch("msld-v2", say=str)


def test_what_is_not_fetched(spec, tmp_path):
    with pytest.raises(MpoxError, match="phantom is not fetched: it is generated"):
        download.fetch("phantom")
    with pytest.raises(MpoxError, match="folder of your own"):
        download.fetch(str(tmp_path))


def test_verify_tells_changed_missing_and_unknown(server, spec, tmp_path):
    server.body = mirror(tmp_path)
    folder = download.fetch("tiny", say=str)
    (folder / "Mpox" / "a.png").write_bytes(b"changed")
    (folder / "Normal" / "c.png").unlink()
    (folder / "Normal" / "new.jpeg").write_bytes(b"new")
    (folder / "notes.csv").write_text("not a picture")
    (folder / "Mpox" / "._a.png").write_bytes(b"what a file manager left")
    status = download.verify("tiny").set_index("image_id")["status"]
    assert status.to_dict() == {
        "Mpox/a.png": "changed",
        "Mpox/b.jpg": "ok",
        "Normal/c.png": "missing",
        "Normal/d.JPG": "ok",
        "Normal/new.jpeg": "unknown",
        "Normal/same_as_a.png": "ok",
    }


def test_verify_needs_a_list(spec, tmp_path):
    with pytest.raises(MpoxError, match="is not here"):
        download.verify("tiny")
    with pytest.raises(MpoxError, match="it is a folder of your own"):
        download.verify(tmp_path)
    with pytest.raises(MpoxError, match="'ahsan-2022' cannot be checked"):
        download.verify("ahsan-2022")


def test_the_phantom_is_compared_with_one_drawn_anew(tmp_path, monkeypatch):
    from mpox.data import phantom

    monkeypatch.setenv("MPOX_CACHE", str(tmp_path))
    small = partial(phantom.PhantomSpec, n_patients=4, size=64, copies=0, label_conflicts=0)
    monkeypatch.setattr(phantom, "PhantomSpec", small)
    table = download.verify("phantom")
    assert len(table) >= 4
    assert set(table["status"]) == {"ok"}
    (phantom.ensure_phantom() / table["image_id"][0]).write_bytes(b"changed")
    assert download.verify("phantom")["status"].tolist()[:2] == ["changed", "ok"]


@pytest.mark.parametrize("name", LISTED)
def test_the_committed_lists_are_complete_and_portable(name):
    expected, spec = integrity.read_checksums(name), REGISTRY[name]
    assert len(expected) == spec.expected_images
    assert list(expected) == sorted(expected)
    for image_id, digest in expected.items():
        assert re.fullmatch(r"[0-9a-f]{64}", digest)
        assert image_id.split("/")[0] in spec.folders
        assert image_id.count("/") == 1


@pytest.mark.parametrize("name", LISTED)
def test_the_real_pictures_have_the_listed_checksums(name):
    if not (SHARED / REGISTRY[name].folder).is_dir():
        pytest.skip(f"the pictures of {name} are not at hand in {SHARED}")
    assert set(download.verify(name, data_dir=SHARED)["status"]) == {"ok"}


def test_msld_v1_is_found_in_a_mirror_by_content(server, spec, tmp_path, monkeypatch):
    """The real list, in the mirror's own layout: Training and Testing, Monkey_Pox and Others."""
    source = SHARED / "msld_v1"
    if not source.is_dir():
        pytest.skip(f"the pictures of msld-v1 are not at hand in {SHARED}")
    monkeypatch.setattr(integrity, "CHECKSUMS", Path(integrity.__file__).parent / "checksums")
    members = []
    for number, path in enumerate(sorted(source.glob("*/*.jpg"))):
        part = "Testing" if number % 5 == 0 else "Training"
        label = path.parent.name.replace("Monkeypox", "Monkey_Pox")
        members.append(
            (
                f"mirror-c7b335/projects/MonkeyPox/MonkeyPox-Images/{part}/{label}/{path.name}",
                path.read_bytes(),
            )
        )
    server.body = make_zip(tmp_path / "msld.zip", members)
    archive = LocalArchive("someone/mirror", "c7b335b2a1ef", "x", REGISTRY["tiny"].archive.url)
    published = REGISTRY["msld-v1"]
    local = DatasetSpec(
        name="msld-v1",
        title=published.title,
        folder=published.folder,
        folders=published.folders,
        archive=archive,
    )
    monkeypatch.setitem(REGISTRY, "msld-v1", local)
    folder = download.fetch("msld-v1", say=str)
    assert download.verify("msld-v1")["status"].value_counts().to_dict() == {"ok": 228}
    assert folder.is_relative_to(tmp_path)
