"""The picture of the arcade that the README shows: the shipped chip playing, in Chromium, as a small PNG."""

from __future__ import annotations

import argparse
import io
import tempfile
from pathlib import Path

from PIL import Image

from bench.browser import chromium, shown


def taken(url: str, size: tuple[int, int], scheme: str, seconds: float, tick: int) -> bytes:
    """PNG of the page, `size` in CSS pixels, after so many seconds of play, as the wave reaches that tick."""
    with chromium() as browser:
        view = {"width": size[0], "height": size[1]}
        page = browser.new_page(viewport=view, color_scheme=scheme, bypass_csp=True)  # type: ignore[arg-type]
        page.goto(url)
        page.wait_for_timeout(1000 * seconds)
        page.select_option("#wave", "slow")
        page.wait_for_function(f"document.querySelector('#tick').textContent.startsWith('tick {tick} ')")
        return bytes(page.screenshot(animations="allow"))


def reduced(png: bytes) -> bytes:
    """The same picture without transparency, as tightly packed as PNG allows."""
    made = io.BytesIO()
    Image.open(io.BytesIO(png)).convert("RGB").save(made, "PNG", optimize=True)
    return made.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs/arcade.png"))
    parser.add_argument("--game", default="Pong")
    parser.add_argument("--size", type=int, nargs=2, default=[1440, 840], help="in CSS pixels")
    parser.add_argument("--scheme", choices=("dark", "light"), default="dark")
    parser.add_argument("--seconds", type=float, default=30.0, help="of play before the picture")
    parser.add_argument("--tick", type=int, default=4, help="of the wave")
    own = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch, shown(Path(scratch), f"game={own.game}") as url:
        png = reduced(taken(url, (own.size[0], own.size[1]), own.scheme, own.seconds, own.tick))
    own.out.write_bytes(png)
    print(f"{own.out}: {len(png) / 1000:.0f} kB")


if __name__ == "__main__":
    main()
