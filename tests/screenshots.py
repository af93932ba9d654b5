"""Takes the screenshots of the dashboard in the docs: `python -m tests.screenshots`, about two minutes.

They show `tidegate demo` while its second rollout is under way. Colours are reduced to a palette, so that files are
small.
"""

import asyncio
import base64
import re
import struct
import sys
import tempfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.e2e.browser import Page, browser

FOLDER = Path(__file__).parents[1] / "docs" / "images"
SHOTS = (
    ("dashboard-light.png", 1280, 1640, "light"),
    ("dashboard-dark.png", 1280, 1640, "dark"),
    ("dashboard-phone.png", 390, 1640, "light"),
    ("dashboard.png", 1280, 960, "light"),
)
MOST_BYTES = 150_000
_UNDER_WAY = """document.querySelector("[data-phase=step]") &&
  document.getElementById("event-list").textContent.includes("rollback rollout")"""
_PIXELS = """(async () => {
  const bytes = Uint8Array.from(atob("%s"), (each) => each.charCodeAt(0));
  const image = await createImageBitmap(new Blob([bytes], {type: "image/png"}));
  const canvas = new OffscreenCanvas(image.width, image.height).getContext("2d");
  canvas.drawImage(image, 0, 0);
  const {data} = canvas.getImageData(0, 0, image.width, image.height);
  let text = "";
  for (let at = 0; at < data.length; at += 32768) text += String.fromCharCode(...data.subarray(at, at + 32768));
  return [image.width, image.height, btoa(text)];
})()"""


async def main() -> None:
    """Run the demo, wait for the moment, and write the files."""
    FOLDER.mkdir(exist_ok=True)
    command = (sys.executable, "-m", "gateway", "demo", "--plain")
    demo = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    try:
        address = await _address(demo)
        with tempfile.TemporaryDirectory() as folder:
            async with asyncio.timeout(180), browser(Path(folder) / "profile") as page:
                await page.call("Emulation.setScrollbarsHidden", hidden=True)
                await page.screen(1280, 1640)
                await page.open(address)
                await _until(page, _UNDER_WAY)
                await asyncio.sleep(5.0)  # the new step has some evidence
                for name, width, height, scheme in SHOTS:
                    await page.screen(width, height, scheme)
                    await asyncio.sleep(1.5)  # the charts are drawn with the next snapshot
                    _write(FOLDER / name, *await _pixels(page))
    finally:
        demo.terminate()
        await demo.communicate()


async def _address(demo: asyncio.subprocess.Process) -> str:
    assert demo.stdout is not None
    async for line in demo.stdout:
        if found := re.match(r"Dashboard +(\S+)", line.decode()):
            return found[1]
    raise RuntimeError("the demo did not start")


async def _until(page: Page, script: str) -> None:
    while not await page.run(script):
        await asyncio.sleep(0.5)


async def _pixels(page: Page) -> tuple[int, int, NDArray[Any]]:
    shot = await page.call("Page.captureScreenshot")
    width, height, pixels = await page.run(_PIXELS % shot["data"])
    return width, height, np.frombuffer(base64.b64decode(pixels), np.uint8).reshape(-1, 4)[:, :3]


def _write(path: Path, width: int, height: int, pixels: NDArray[Any]) -> None:
    """Write a PNG of the 256 colours that are used most; any other becomes the nearest of them."""
    packed = pixels.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
    colours, places, counts = np.unique(packed, return_inverse=True, return_counts=True)
    rgb = np.stack([colours >> 16, colours >> 8 & 255, colours & 255], axis=1).astype(np.int32)
    palette = rgb[np.argsort(-counts)[:256]]
    nearest = np.array([np.square(palette - each).sum(axis=1).argmin() for each in rgb], np.uint8)
    rows = nearest[places].reshape(height, width)
    raw = b"".join(b"\0" + row.tobytes() for row in rows)
    header = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    chunks = (
        (b"IHDR", header),
        (b"PLTE", palette.astype(np.uint8).tobytes()),
        (b"IDAT", zlib.compress(raw, 9)),
        (b"IEND", b""),
    )
    written = b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*each) for each in chunks)
    assert len(written) < MOST_BYTES, f"{path.name} has {len(written)} bytes"
    path.write_bytes(written)


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


if __name__ == "__main__":
    asyncio.run(main())
