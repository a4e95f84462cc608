"""Fetching, verifying and listing data sets, against a server on this machine and archives made here; `mpox data ...`."""

import hashlib
import random
import re
import socket
import sys
import threading
import types
import zipfile
from dataclasses import dataclass
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from click.testing import CliRunner
from filelock import FileLock

from mpox import cli
from mpox._core import MpoxError
from mpox.data import fetch
from mpox.data.registry import REGISTRY, Archive, DatasetSpec

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
LISTED = sorted(path.stem for path in fetch.CHECKSUMS.glob("*.sha256"))
IMAGES = {name: random.Random(name).randbytes(40_000) for name in ("Mpox/a.png", "Mpox/b.jpg", "Normal/c.png", "Normal/d.JPG")}
IMAGES["Normal/same_as_a.png"] = IMAGES["Mpox/a.png"]


class Handler(BaseHTTPRequestHandler):
    """Serves one file; can cut the connection, or answer with an error."""

    def do_GET(self):
        self.server.asked += 1
        if self.server.status:
            self.send_error(self.server.status)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.server.body)))
        self.end_headers()
        self.wfile.write(self.server.body[: self.server.cut_after])

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.body, server.status, server.cut_after, server.asked = b"", None, None, 0
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


def register(monkeypatch, address, name="tiny"):
    archive = LocalArchive("someone/mirror", "0123456789abcdef", "images", address)
    spec = DatasetSpec(name, "Tiny", name, folders=("Mpox", "Normal"), homepage="https://home", archive=archive)
    monkeypatch.setitem(REGISTRY, name, spec)
    return archive


@pytest.fixture
def archive(server, tmp_path, monkeypatch):
    """Of the registered data set 'tiny', whose mirror has other folders than its list; where it lies while it is fetched."""
    monkeypatch.setenv("MPOX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(fetch, "CHECKSUMS", tmp_path / "lists")
    (tmp_path / "lists").mkdir()
    lines = [f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in IMAGES.items()]
    (tmp_path / "lists" / "tiny.sha256").write_text("".join(lines))
    return fetch.archive_path(register(monkeypatch, f"http://127.0.0.1:{server.server_address[1]}/tiny.zip"))


def make_zip(path, members):
    """A zip archive of (name, content) pairs; returns its bytes."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return path.read_bytes()


def mirror(tmp_path, *, changed=(), more=()):
    """The archive as a mirror has it: other folders, other files beside the images."""
    members = [("mirror-0123/README.md", b"read me"), ("mirror-0123/images/Extra/x.png", b"not listed"), *more]
    for name, data in IMAGES.items():
        if name != "Normal/same_as_a.png":  # the same bytes are there once, and needed twice
            data = b"other" + data if name in changed else data
            members.append((f"mirror-0123/images/Training/{name.replace('Mpox', 'Monkey_Pox')}", data))
    return make_zip(tmp_path / "mirror.zip", members)


def tree(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_fetch_puts_the_listed_images_in_place_and_a_second_call_does_nothing(server, archive, tmp_path):
    server.body, said = mirror(tmp_path), []
    folder = fetch.fetch("tiny", say=said.append)
    assert folder == tmp_path / "cache" / "data" / "tiny" and tree(folder) == IMAGES
    assert set(fetch.verify("tiny")["status"]) == {"ok"}
    assert [path.name for path in folder.parent.iterdir()] == ["tiny"] and not archive.exists()
    assert "5 images, every one with the listed checksum" in said[-1]
    assert fetch.fetch("tiny", say=said.append) == folder
    assert "nothing to do" in said[-1] and server.asked == 1
    assert tree(fetch.fetch("tiny", data_dir=tmp_path / "mine", say=str)) == IMAGES and (tmp_path / "mine" / "tiny").is_dir()
    with FileLock(archive.with_name("tiny.lock")), pytest.raises(MpoxError, match="Another `mpox data fetch tiny` is running"):
        fetch.fetch("tiny", data_dir=tmp_path / "third", say=str)


def test_wrong_checksums_are_named_and_change_nothing(server, archive, tmp_path):
    server.body = mirror(tmp_path, changed=["Mpox/b.jpg"])
    old = tmp_path / "cache" / "data" / "tiny" / "Mpox" / "a.png"
    old.parent.mkdir(parents=True)
    old.write_bytes(b"half an image")
    with pytest.raises(MpoxError, match=r"does not have Mpox/b\.jpg .*listed checksum.: remove it .* nothing was changed"):
        fetch.fetch("tiny", say=str)
    assert tree(tmp_path / "cache" / "data") == {"tiny/Mpox/a.png": b"half an image"}
    archive.unlink()
    server.body = mirror(tmp_path)
    assert tree(fetch.fetch("tiny", say=str)) == IMAGES


def failing(server, archive, tmp_path, monkeypatch, trouble):
    body = server.body = mirror(tmp_path)
    if trouble == "no network":
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            register(monkeypatch, f"http://127.0.0.1:{probe.getsockname()[1]}/tiny.zip")
    elif trouble == "404":
        server.status = 404
    elif trouble == "cut":
        server.cut_after = 100_000
    else:
        flipped = body[:50_000] + bytes([body[50_000] ^ 255]) + body[50_001:]
        server.body = {"html": b"<html>log in", "flipped": flipped}[trouble]


@pytest.mark.parametrize(
    ("trouble", "sentence"),
    [
        ("no network", r"not downloaded .ConnectionError.: try again later, or open http.* save the file as .*/mirror-0123"),
        ("404", "the server answered 404 Not Found"),
        ("cut", "not downloaded"),
        ("html", "not a whole zip archive"),
        ("flipped", "not a whole zip archive"),
    ],
)
def test_a_failed_download_is_one_sentence_and_the_archive_can_be_put_there_by_hand(
    server, archive, tmp_path, monkeypatch, trouble, sentence
):
    failing(server, archive, tmp_path, monkeypatch, trouble)
    with pytest.raises(MpoxError, match=sentence) as raised:
        fetch.fetch("tiny", say=str)
    assert str(archive) in str(raised.value) and not list((tmp_path / "cache" / "data").iterdir())
    archive.parent.mkdir(parents=True, exist_ok=True)
    archive.write_bytes(mirror(tmp_path))
    assert tree(fetch.fetch("tiny", say=str)) == IMAGES


def test_no_member_of_an_archive_gets_out_of_its_folder(server, archive, tmp_path):
    names = ["../../evil.png", "mirror/../../evil.png", "/evil.png", "..\\evil.png", "C:/evil.png"]
    server.body = mirror(tmp_path, more=[(name, b"x") for name in names])
    assert tree(fetch.fetch("tiny", say=str)) == IMAGES
    assert not list(tmp_path.rglob("*evil*")) and not Path("/evil.png").exists()


@pytest.mark.parametrize("trouble", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_stopped_while_unpacking_nothing_half_is_there_and_the_next_call_goes_on(server, archive, tmp_path, monkeypatch, trouble):
    server.body, copied, copy = mirror(tmp_path), [], fetch.shutil.copyfile

    def stop_at_third(source, target):
        copied.append(target)
        if len(copied) == 3:
            raise trouble
        copy(source, target)

    monkeypatch.setattr(fetch.shutil, "copyfile", stop_at_third)
    expected = pytest.raises(MpoxError, match="cannot be written .No space left") if isinstance(trouble, OSError) else None
    with expected or pytest.raises(KeyboardInterrupt):
        fetch.fetch("tiny", say=str)
    assert not list((tmp_path / "cache" / "data").iterdir())
    monkeypatch.setattr(fetch.shutil, "copyfile", copy)
    assert tree(fetch.fetch("tiny", say=str)) == IMAGES and server.asked == 1  # the archive was kept


def test_a_damaged_copy_is_kept_aside_or_an_error_where_it_would_hide_the_fresh_one(server, archive, tmp_path, monkeypatch):
    server.body = mirror(tmp_path)
    folder = fetch.fetch("tiny", say=str)
    (folder / "Mpox" / "a.png").write_bytes(b"damaged")
    assert tree(fetch.fetch("tiny", say=str)) == IMAGES
    aside = [path for path in folder.parent.iterdir() if path.name.startswith("tiny.replaced-")]
    assert [tree(path)["Mpox/a.png"] for path in aside] == [b"damaged"]
    (folder / "Mpox" / "a.png").unlink()
    monkeypatch.setenv("MPOX_DATA", str(folder.parent))
    monkeypatch.setenv("MPOX_CACHE", str(tmp_path / "other"))
    with pytest.raises(MpoxError, match=r"1 missing \(Mpox/a\.png\); .* would not be found"):
        fetch.fetch("tiny", say=str)


def test_without_a_list_only_the_class_folders_are_taken(server, archive, tmp_path, monkeypatch):
    register(monkeypatch, REGISTRY["tiny"].archive.url, name="unlisted")
    inside = [(f"mirror-0123/images/{name}", data) for name, data in IMAGES.items()]
    outside = [(f"mirror-0123/{name}.png", b"x") for name in ("images/Augmented/a", "images/a", "Mpox/a")]
    server.body, said = make_zip(tmp_path / "unlisted.zip", inside + outside), []
    assert tree(fetch.fetch("unlisted", say=said.append)) == IMAGES
    fetch.fetch("unlisted", say=said.append)
    assert all("5 images, no list of checksums" in line for line in said[1:])
    server.body = make_zip(tmp_path / "empty.zip", outside)
    with pytest.raises(MpoxError, match="does not have Mpox, Normal"):
        fetch.fetch("unlisted", data_dir=tmp_path / "other", say=str)


@pytest.fixture
def published(server, archive, tmp_path, monkeypatch):
    """'record', at an address of its own, with the md5 of its archive, wants its licence read; the folder where data are put."""
    members = [(f"Images/{name}", data) for name, data in IMAGES.items()] + [("__MACOSX/Images/Mpox/._a.png", b"x")]
    server.body = make_zip(tmp_path / "record.zip", [("README.txt", b"terms"), *members])
    address = f"http://127.0.0.1:{server.server_address[1]}/record.zip"
    source = Archive(address=address, md5=hashlib.md5(server.body).hexdigest())
    spec = DatasetSpec("record", "Record", "record", homepage="https://home/terms", archive=source, read_licence=True)
    monkeypatch.setitem(REGISTRY, "record", spec)
    return tmp_path / "cache" / "data"


def test_a_licence_that_has_to_be_read_is_asked_for_before_anything_is_downloaded(server, published):
    asked = CliRunner().invoke(cli.data, ["fetch", "record"])
    assert asked.exit_code == 1 and server.asked == 0 and not published.exists()
    assert "open https://home/terms" in str(asked.exception) and "fetch record --licence-read`" in str(asked.exception)
    done = CliRunner().invoke(cli.data, ["fetch", "record", "--licence-read"])
    assert tree(published / "record") == IMAGES and server.asked == 1
    assert "5 images, in an archive with the published checksum" in done.output
    assert "nothing to do" in CliRunner().invoke(cli.data, ["fetch", "record"]).output  # what is here is read, not fetched


def test_an_archive_that_is_not_the_published_one_is_refused(server, published, tmp_path):
    good, server.body = (
        server.body,
        make_zip(tmp_path / "other.zip", [("Images/Mpox/a.png", b"other"), ("Images/Normal/b.png", b"y")]),
    )
    with pytest.raises(MpoxError, match="is not the published file .md5 [0-9a-f]{32}.; nothing was changed"):
        fetch.fetch("record", licence_read=True, say=str)
    assert not list(published.iterdir())
    server.body = good
    assert tree(fetch.fetch("record", licence_read=True, say=str)) == IMAGES


def test_mcsi_is_the_published_zenodo_record():
    spec = REGISTRY["mcsi"]
    assert spec.read_licence and spec.archive.md5 == "e8e490856d0a7e4871ae9e2dc15e81fe" and spec.archive.file == "MCSI.zip"
    assert spec.archive.url == "https://zenodo.org/records/8360076/files/MCSI.zip" and spec.homepage.endswith("zenodo.8360076")
    assert [name for name, one in REGISTRY.items() if one.read_licence] == ["mcsi"]


def test_kaggle_delivers_the_original_images(archive, tmp_path, monkeypatch):
    copy, asked, said = tmp_path / "kaggle" / "versions" / "1", [], []
    (copy / "Augmented Images").mkdir(parents=True)
    for part, name in (("fold1/Test", "1.jpg"), ("fold2/Test", "2.jpg"), ("fold1/Train", "2.jpg")):
        path = copy / "Original Images" / "FOLDS" / part / "Mpox" / name
        path.parent.mkdir(parents=True)
        path.write_bytes(name.encode())
    client = types.SimpleNamespace(dataset_download=lambda handle: asked.append(handle) or str(copy))
    monkeypatch.setitem(sys.modules, "kagglehub", client)
    folder = fetch.fetch("msld-v2", say=said.append)
    assert asked == [REGISTRY["msld-v2"].kaggle] and "2 images (published: 755)" in said[-1]
    assert [path.name for path in folder.iterdir()] == ["Original Images"] and len(tree(folder)) == 3


def _refuse(handle):
    raise RuntimeError("401 Client Error\nand a page of details")


@pytest.mark.parametrize(
    ("call", "name", "download", "sentence"),
    [
        (fetch.fetch, "msld-v2", None, "pip install kagglehub"),  # as if it were not installed
        (fetch.fetch, "msld-v2", _refuse, r"Kaggle did not deliver 'msld-v2' \(401 Client Error\): log in"),
        (fetch.fetch, "msld-v2", lambda handle: str(Path(__file__).parent), "no folder 'FOLDS'"),
        (fetch.fetch, "phantom", None, "not fetched but generated"),
        (fetch.fetch, "{folder}", None, "folder of your own"),
        (fetch.verify, "tiny", None, "is not here"),
        (fetch.verify, "{folder}", None, "no list of checksums"),
        (fetch.verify, "ahsan-2022", None, "no list of checksums for 'ahsan-2022'"),
    ],
)
def test_what_cannot_be_had_or_checked_is_one_sentence(archive, tmp_path, monkeypatch, call, name, download, sentence):
    client = types.SimpleNamespace(dataset_download=download) if download else None
    monkeypatch.setitem(sys.modules, "kagglehub", client)
    with pytest.raises(MpoxError, match=sentence):
        call(name.format(folder=tmp_path))


def test_the_phantom_is_compared_with_one_drawn_anew(tmp_path, monkeypatch):
    from mpox.data import phantom

    monkeypatch.setenv("MPOX_CACHE", str(tmp_path))
    small = partial(phantom.PhantomSpec, n_patients=4, size=64, copies=0, label_conflicts=0)
    monkeypatch.setattr(phantom, "PhantomSpec", small)
    table = fetch.verify("phantom")
    assert len(table) >= 4 and set(table["status"]) == {"ok"}
    (phantom.ensure_phantom() / table["image_id"][0]).write_bytes(b"changed")
    assert fetch.verify("phantom")["status"].tolist()[:2] == ["changed", "ok"]


@pytest.mark.parametrize("name", LISTED)
def test_the_committed_lists_are_complete_and_portable_and_those_of_the_real_images(name):
    expected, spec = fetch.read_checksums(name), REGISTRY[name]
    assert len(expected) == spec.expected_images and list(expected) == sorted(expected)
    for image_id, digest in expected.items():
        assert re.fullmatch(r"[0-9a-f]{64}", digest)
        assert image_id.split("/")[0] in spec.folders and image_id.count("/") == 1
    if (SHARED / spec.folder).is_dir():
        assert set(fetch.verify(name, data_dir=SHARED)["status"]) == {"ok"}


@pytest.fixture
def data(tmp_path, monkeypatch):
    """Runs a command where 'msld-v1' has two images, with their list, under MPOX_DATA."""
    monkeypatch.setenv("MPOX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("MPOX_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(fetch, "CHECKSUMS", tmp_path)
    lines = []
    for image_id in ("Monkeypox/M01_01.jpg", "Others/NM01_01.jpg"):
        path = tmp_path / "data" / "msld_v1" / image_id
        path.parent.mkdir(parents=True)
        path.write_bytes(image_id.encode())
        lines.append(f"{fetch.sha256(path)}  {image_id}\n")
    (tmp_path / "msld-v1.sha256").write_text("".join(lines))
    return lambda *arguments: CliRunner().invoke(cli.data, [str(argument) for argument in arguments])


def test_list_shows_every_data_set_and_where_it_is(data, tmp_path):
    result = data("list")
    rows = {line.split("  ")[0]: line for line in result.output.splitlines() if line}
    assert result.exit_code == 0 and {"msld-v1", "msid", "msld-v2", "ahsan-2022", "phantom"} <= set(rows)
    assert all(part in rows["msld-v1"] for part in (str(tmp_path / "data" / "msld_v1"), "228", "CC BY-NC"))
    assert "not here" in rows["msid"] and "mpox data fetch msid" in rows["msid"]
    assert "mpox data fetch" not in rows["msld-v1"] + rows["phantom"]  # it is here, or cannot be fetched
    assert "needs mpox[kaggle]" in rows["msld-v2"] and "phantom, not patients" in rows["phantom"]
    assert not (tmp_path / "cache").exists()  # nothing is generated by looking


def test_path_prints_the_folder(data, tmp_path):
    other = tmp_path / "other" / "msid" / "Normal"
    other.mkdir(parents=True)
    assert data("path", "msld-v1").output == f"{tmp_path / 'data' / 'msld_v1'}\n"
    assert data("path", tmp_path / "data").output == f"{tmp_path / 'data'}\n"
    assert data("path", "msid", "--data-dir", tmp_path / "other").output == f"{other.parent}\n"
    missing = data("path", "msid")
    assert missing.exit_code == 1 and "mpox data fetch msid" in str(missing.exception)


def test_verify_names_what_is_wrong(data, tmp_path):
    root = tmp_path / "data" / "msld_v1"
    assert "(2 images, verified): nothing to do.\n" in data("fetch", "msld-v1").output
    assert data("verify", "msld-v1").output.endswith(": 2 ok, 0 changed, 0 missing, 0 unknown\n")
    (root / "Others" / "mine.PNG").write_bytes(b"mine")
    (root / "Others" / "._a.png").write_bytes(b"what a file manager left")
    more = data("verify", "msld-v1")
    assert more.exit_code == 0 and "unknown  Others/mine.PNG" in more.output and "not part of the published" in more.output
    (root / "Monkeypox" / "M01_01.jpg").write_bytes(b"changed")
    (root / "Others" / "NM01_01.jpg").unlink()
    result = data("verify", "msld-v1")
    assert result.exit_code == 1 and result.output.splitlines() == [
        "changed  Monkeypox/M01_01.jpg",
        "missing  Others/NM01_01.jpg",
        "unknown  Others/mine.PNG",
        f"msld-v1 in {root}: 0 ok, 1 changed, 1 missing, 1 unknown",
    ]
    message = "1 changed (Monkeypox/M01_01.jpg) and 1 missing (Others/NM01_01.jpg)"
    assert message in str(result.exception) and "run `mpox data fetch msld-v1`" in str(result.exception)
    assert data("verify", "msld-v2").exit_code == 1
