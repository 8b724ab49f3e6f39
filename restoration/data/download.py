"""Download of one file over HTTP, resumable and checked."""

import hashlib
import http.client
import logging
import os
import time
import urllib.error
import urllib.request
from pathlib import Path

from tqdm import tqdm

__all__ = ["download"]

BLOCK = 1 << 18

logger = logging.getLogger(__name__)


def download(
    url: str, target: Path, *, size: int, md5: str, timeout: float = 30.0, attempts: int = 3, pause: float = 1.0
) -> None:
    """Downloads to `target`, which is only written once the file is complete and checked.

    Incomplete data is kept in `<target>.part`; a later attempt, or a later call, asks the server for the rest.

    Args:
        url: an http or https address.
        target: the file's final path.
        size: its length in bytes.
        md5: its MD5 in hexadecimal.
        timeout: seconds without data that count as a failure.
        attempts: consecutive failures without new data after which it gives up.
        pause: seconds before the second attempt, doubled for each further one.

    Raises:
        OSError: the server cannot be reached, refuses or keeps disconnecting; or size or MD5 is wrong.
    """
    part = target.with_name(target.name + ".part")
    if part.exists() and part.stat().st_size > size:
        part.unlink()
    failures = 0
    while not part.exists() or part.stat().st_size < size:
        have = part.stat().st_size if part.exists() else 0
        try:
            _fetch_rest(url, part, have, size, timeout)
            if part.stat().st_size < size:
                raise ConnectionError("the connection ended early")
        except (OSError, http.client.HTTPException) as error:
            if isinstance(error, urllib.error.HTTPError) and error.code < 500:
                if error.code == 416:  # the server's file is shorter than our part
                    part.unlink()
                raise OSError(f"{url} answered {error.code} {error.reason}") from error
            advanced = part.exists() and part.stat().st_size > have
            failures = 1 if advanced else failures + 1
            reason = getattr(error, "reason", None) or error
            if failures >= attempts:
                raise OSError(f"{url} could not be downloaded ({reason})") from error
            logger.warning("download of %s was interrupted (%s); trying again", url, reason)
            time.sleep(pause * 2 ** (failures - 1))
    _check(url, part, size, md5)
    os.replace(part, target)


def _fetch_rest(url: str, part: Path, have: int, size: int, timeout: float) -> None:
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    with urllib.request.urlopen(request, timeout=timeout) as response:
        resumed = response.status == 206 and response.headers.get("Content-Range", "").startswith(f"bytes {have}-")
        start = have if resumed else 0  # a server without Range support sends the whole file
        with (
            open(part, "ab" if resumed else "wb") as file,
            tqdm(
                total=size, initial=start, desc=part.stem, unit="B", unit_scale=True, unit_divisor=1024, disable=None
            ) as bar,
        ):
            while block := response.read(BLOCK):
                file.write(block)
                bar.update(len(block))
                if file.tell() > size:
                    return  # too long; `_check` reports it


def _check(url: str, part: Path, size: int, md5: str) -> None:
    if part.stat().st_size == size:
        with open(part, "rb") as file:
            found = hashlib.file_digest(file, "md5").hexdigest()
        if found == md5:
            return
        problem = f"MD5 {found} instead of {md5}"
    else:
        problem = f"more than the expected {size:,} bytes"
    part.unlink()  # otherwise each later call would fail too
    raise OSError(f"{url} is not the expected file ({problem}); the download was removed")
