"""Downloading one file so that a cut connection costs nothing: pooch, with a downloader that continues."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pooch
import requests
from tqdm import tqdm

from mpox._core import MpoxError

#: How often a cut connection is taken up again within one call, and seconds to wait for (connection, data).
RETRIES = 2
TIMEOUT = (10, 60)
CHUNK = 2**16


def _megabytes(count: int) -> str:
    return f"{count / 2**20:,.1f} MB"


def explain_os_error(error: OSError, *folders: Path) -> MpoxError:
    """One sentence for a disk that is full or a folder that cannot be written."""
    where = " or ".join(str(folder) for folder in folders)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return MpoxError(
            f"The disk that holds {where} is full: make room, then run the same command again (what has been downloaded is kept)."
        )
    return MpoxError(
        f"Cannot write to {error.filename or where} ({error.strerror or error}): make it writable, or name "
        "other folders with --data-dir and MPOX_CACHE, then run the same command again."
    )


class _ResumingDownloader:
    """A downloader for pooch that keeps what arrived in a ``.part`` file and asks the server for the rest."""

    def __init__(self, part: Path, say: Callable[[str], None]):
        self.part = part
        self.etag = part.with_name(part.name + ".etag")
        self.say = say

    @property
    def arrived(self) -> int:
        """Bytes that are here already."""
        return self.part.stat().st_size if self.part.is_file() else 0

    def _forget(self) -> None:
        self.part.unlink(missing_ok=True)
        self.etag.unlink(missing_ok=True)

    def _headers(self) -> dict[str, str]:
        headers = {"Accept-Encoding": "identity", "User-Agent": "mpox"}
        if self.arrived:
            headers["Range"] = f"bytes={self.arrived}-"
            if self.etag.is_file():
                headers["If-Range"] = self.etag.read_text()
        return headers

    def _get(self, url: str) -> requests.Response:
        try:
            return requests.get(url, headers=self._headers(), stream=True, timeout=TIMEOUT)
        except requests.RequestException as error:
            kept = f" ({_megabytes(self.arrived)} that arrived are kept)" if self.arrived else ""
            raise MpoxError(f"cannot reach {url.split('/')[2]} ({type(error).__name__}){kept}") from error

    def __call__(self, url: str, output_file: str, pooch: object) -> None:
        have = self.arrived
        with self._get(url) as response:
            status = response.status_code
            span = response.headers.get("Content-Range", "")
            if status == 416 and span == f"bytes */{have}":
                pass  # all of it had arrived before
            elif status == 416 or (status == 206 and not span.startswith(f"bytes {have}-")):
                self._forget()
                raise requests.RequestException("the server's file is not the one that was begun")
            elif status >= 400:
                raise MpoxError(f"the server answered {status} ({response.reason}) to {url}")
            else:
                self._receive(response, have if status == 206 else 0)
        os.replace(self.part, output_file)
        self._forget()

    def _receive(self, response: requests.Response, start: int) -> None:
        if start:
            self.say(f"Goes on after the {_megabytes(start)} that were here.")
        elif self.arrived:
            self.say("The server cannot continue a download: starts over.")
        tag = response.headers.get("ETag", "")
        self.etag.unlink(missing_ok=True)
        if tag.startswith('"'):  # a weak tag does not promise the same bytes
            self.etag.write_text(tag)
        length = response.headers.get("Content-Length")
        total = start + int(length) if length and length.isdigit() else None
        bar = tqdm(total=total, initial=start, unit="B", unit_scale=True, desc="Downloading", disable=None)
        with bar, self.part.open("ab" if start else "wb") as stream:
            for chunk in response.iter_content(CHUNK):
                stream.write(chunk)
                bar.update(len(chunk))


def download(url: str, target: Path, *, say: Callable[[str], None] = print) -> Path:
    """Download a file, or continue a download that was cut short.

    Parameters
    ----------
    url : str
        Address, http or https.
    target : path
        Where the whole file goes. While it is incomplete it lies beside it as ``<name>.part``. A file that is
        there already is taken as it is.
    say : callable
        Told, in a sentence, what happens.

    Raises
    ------
    MpoxError
        If the server cannot be reached, answers with an error, or cuts the connection again and again. What
        has arrived is kept. The message is half a sentence, for the caller to complete.
    OSError
        If the file cannot be written. What has arrived is kept.
    """
    part = target.with_name(target.name + ".part")
    pooch.get_logger().setLevel("WARNING")
    shelf = pooch.Pooch(
        path=target.parent,
        base_url="",
        registry={target.name: None},
        urls={target.name: url},
        retry_if_failed=RETRIES,
    )
    downloader = _ResumingDownloader(part, say)
    say(f"Using {target}." if target.is_file() else f"Downloading {url}")
    try:
        return Path(shelf.fetch(target.name, downloader=downloader))
    except requests.RequestException as error:
        raise MpoxError(
            f"the connection was cut ({_megabytes(downloader.arrived)} that arrived are kept, "
            "the same command goes on from there)"
        ) from error
