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

BLOCK = 1 << 18
TIMEOUT = 30.0  # seconds without data that count as a failure
ATTEMPTS = 3  # consecutive failures without new data after which it gives up
PAUSE = 1.0  # seconds before the second attempt, doubled for each further one

logger = logging.getLogger(__name__)


def download(url: str, target: Path, *, size: int, md5: str) -> None:
    """Downloads to `target`, which is only written once the file is complete and checked.

    Incomplete data is kept in `<target>.part`; a later attempt, or a later call, asks the server for the rest.

    Args:
        url: an http or https address.
        size, md5: of the complete file, in bytes and in hexadecimal.

    Raises:
        OSError: the server cannot be reached, refuses or keeps disconnecting; or size or MD5 is wrong.
    """
    part = target.with_name(target.name + ".part")
    part.touch()
    failures = 0
    while (have := part.stat().st_size) < size:
        try:
            _fetch_rest(url, part, have, size)
            if part.stat().st_size < size:
                raise ConnectionError("the connection ended early")
        except (OSError, http.client.HTTPException) as error:
            if isinstance(error, urllib.error.HTTPError) and error.code < 500:
                if error.code == 416:  # the server's file is shorter than our part
                    part.unlink()
                raise OSError(f"{url} answered {error.code} {error.reason}") from error
            failures = 1 if part.stat().st_size > have else failures + 1
            reason = getattr(error, "reason", None) or error
            if failures >= ATTEMPTS:
                raise OSError(f"{url} could not be downloaded ({reason})") from error
            logger.warning("download of %s was interrupted (%s); trying again", url, reason)
            time.sleep(PAUSE * 2 ** (failures - 1))
    with open(part, "rb") as file:
        found = hashlib.file_digest(file, "md5").hexdigest()
    if found != md5:
        part.unlink()  # otherwise each later call would fail too
        raise OSError(f"{url} is not the expected file (MD5 {found} instead of {md5}); the download was removed")
    os.replace(part, target)


def _fetch_rest(url: str, part: Path, have: int, size: int) -> None:
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
        resumed = response.status == 206 and response.headers.get("Content-Range", "").startswith(f"bytes {have}-")
        with (
            open(part, "ab" if resumed else "wb") as file,  # a server without Range support sends the whole file
            tqdm(total=size, initial=file.tell(), desc=part.stem, unit="B", unit_scale=True, disable=None) as bar,
        ):
            while (block := response.read(BLOCK)) and file.tell() <= size:
                file.write(block)
                bar.update(len(block))
