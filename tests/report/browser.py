"""What does a page look like to somebody who opens it? Chromium without a window: the text it shows, and the colours on its picture."""

from __future__ import annotations

import shutil
import struct
import subprocess
import tempfile
import zlib
from collections import Counter
from pathlib import Path

import pytest

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_QUIET = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)
_SECONDS = 90
_PNG = b"\x89PNG\r\n\x1a\n"


def chromium() -> str:
    """The browser's program; fails the test, saying how to get it, where there is none."""
    found = next((path for name in _NAMES if (path := shutil.which(name))), None)
    if found is None:
        pytest.fail("there is no Chromium to look at the report with: apt-get install chromium (.ci/run does)")
    return found


def shown(page: Path) -> str:
    """The document after the browser has read it."""
    return _run("--dump-dom", page)


def picture(page: Path, *, dark: bool = False, width: int = 800, height: int = 1600) -> Counter[tuple[int, int, int]]:
    """How often each colour is on the page as it is drawn."""
    with tempfile.TemporaryDirectory(prefix="clarity-picture-") as folder:
        file = Path(folder) / "page.png"
        scheme = ("--blink-settings=preferredColorScheme=0",) if dark else ("--blink-settings=preferredColorScheme=1",)
        _run(f"--window-size={width},{height}", f"--screenshot={file}", *scheme, page)
        return _colours(file.read_bytes())


def _run(*arguments: str | Path) -> str:
    program = chromium()
    *options, page = arguments
    with tempfile.TemporaryDirectory(prefix="clarity-browser-", ignore_cleanup_errors=True) as profile:
        command = [program, *_QUIET, f"--user-data-dir={profile}", *map(str, options), f"file://{page}"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def _colours(png: bytes) -> Counter[tuple[int, int, int]]:
    """The pixels of a PNG of 8 bits a channel that is not interlaced. https://www.w3.org/TR/png-3/"""
    assert png.startswith(_PNG)
    at, data, width, channels = len(_PNG), b"", 0, 0
    while at < len(png):
        length, kind = struct.unpack(">I4s", png[at : at + 8])
        body = png[at + 8 : at + 8 + length]
        if kind == b"IHDR":
            width, _, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", body)
            assert (depth, interlaced) == (8, 0)
            channels = {2: 3, 6: 4}[colour]
        elif kind == b"IDAT":
            data += body
        at += length + 12
    raw, stride = zlib.decompress(data), width * channels
    found: Counter[tuple[int, int, int]] = Counter()
    above = bytearray(stride)
    for start in range(0, len(raw), stride + 1):
        above = _unfiltered(raw[start], bytearray(raw[start + 1 : start + 1 + stride]), above, channels)
        found.update(zip(above[0::channels], above[1::channels], above[2::channels], strict=True))
    return found


def _unfiltered(kind: int, row: bytearray, above: bytearray, channels: int) -> bytearray:
    """A row of pixels from what was stored: 0 as it is, 1 less the pixel before, 2 less the one above, 3 their mean, 4 the nearest one."""
    if kind == 0:
        return row
    if kind == 2:
        return bytearray((value + up) & 255 for value, up in zip(row, above, strict=True))
    for index, value in enumerate(row):
        left = row[index - channels] if index >= channels else 0
        if kind == 1:
            guess = left
        elif kind == 3:
            guess = (left + above[index]) // 2
        else:
            guess = _nearest(left, above[index], above[index - channels] if index >= channels else 0)
        row[index] = (value + guess) & 255
    return row


def _nearest(left: int, up: int, corner: int) -> int:
    """Paeth's predictor: whichever of the three is nearest to left + up - corner."""
    to_left, to_up, to_corner = abs(up - corner), abs(left - corner), abs(left + up - 2 * corner)
    if to_left <= to_up and to_left <= to_corner:
        return left
    return up if to_up <= to_corner else corner
