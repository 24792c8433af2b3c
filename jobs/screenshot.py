"""Photograph the upper part of a report, in true colour, with a headless Chromium.

python jobs/screenshot.py PAGE.html --out PICTURE.png makes docs/figures/report.png of the README;
see `make figures`.
"""

import argparse
import io
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from rddrs_dist import cli
from rddrs_dist.results import files

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_SECONDS = 120


def browser() -> str:
    """Path of a browser.

    Raises:
        ValueError: If there is none.
    """
    if found := next(filter(None, map(shutil.which, BROWSERS)), None):
        return found
    raise ValueError(f"a browser is wanted, one of {', '.join(BROWSERS)}, got none: install one")


def photograph(page: Path, width: int, height: int) -> bytes:
    """The upper part of a page as a PNG.

    Args:
        page: An HTML file.
        width: Of the window, in pixels.
        height: Of the window, in pixels.

    Raises:
        FileNotFoundError: If there is no such page.
        ValueError: If there is no browser or it makes no picture.
    """
    if not page.is_file():
        raise FileNotFoundError(f"no page {page}: make it with `rddrs report DIR --out {page}`")
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "made.png"
        command = [browser(), "--headless=new", "--no-sandbox", "--disable-gpu"]
        command += ["--hide-scrollbars", f"--user-data-dir={folder}/profile"]
        command += [f"--window-size={width},{height}", f"--screenshot={made}"]
        # Figures are drawn as they come into view: time for that, which the browser does not wait.
        command += ["--virtual-time-budget=10000", page.resolve().as_uri()]
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS)
        if not made.exists():
            raise ValueError(f"{command[0]} made no picture of {page}: {done.stderr.strip()}")
        return _smaller(made.read_bytes())


def _smaller(content: bytes) -> bytes:
    """The same pixels in fewer bytes: no transparency, and the strongest compression."""
    sink = io.BytesIO()
    Image.open(io.BytesIO(content)).convert("RGB").save(sink, "PNG", optimize=True)
    return sink.getvalue()


def options(flags: Sequence[str]) -> argparse.Namespace:
    """What the job is told."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("page", type=Path, help="HTML file that `rddrs report` wrote")
    parser.add_argument("--out", type=Path, required=True, help="PNG file to write")
    parser.add_argument("--width", type=int, default=1060)
    parser.add_argument("--height", type=int, default=2060)
    return parser.parse_args(flags)


def main(flags: Sequence[str]) -> int:
    """Runs the job; returns its exit code, as `rddrs_dist.cli.main` does."""
    told = options(flags)
    try:
        content = photograph(told.page, told.width, told.height)
        files.replace(told.out, content, then="try again")
    except (ValueError, OSError, subprocess.TimeoutExpired) as error:
        print("rddrs: error: " + " ".join(str(error).split()), file=sys.stderr)
        return cli.WRONG
    print(f"wrote {told.out} ({len(content) / 1e3:.0f} kB)")
    return cli.COMPLETE


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
