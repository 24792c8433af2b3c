"""Photograph the upper part of a report, in true colour, with a headless Chromium.

python jobs/screenshot.py PAGE.html --out PICTURE.png makes docs/figures/report.png of the README;
see `make figures`.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from rddrs_dist import cli

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def photograph(page: Path, out: Path, width: int, height: int) -> None:
    """Writes the upper part of a page, of so many pixels, as a PNG."""
    if not page.is_file():
        raise FileNotFoundError(f"no page {page}: make it with `rddrs report DIR --out {page}`")
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        raise ValueError(f"a browser is wanted, one of {', '.join(BROWSERS)}: install one")
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "made.png"
        command = [browser, "--headless=new", "--no-sandbox", "--disable-gpu"]
        command += ["--hide-scrollbars", f"--user-data-dir={folder}/profile"]
        command += [f"--window-size={width},{height}", f"--screenshot={made}"]
        # Figures are drawn as they come into view: time for that, which the browser does not wait.
        command += ["--virtual-time-budget=10000", page.resolve().as_uri()]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        if not made.exists():
            raise ValueError(f"{browser} made no picture of {page}: {done.stderr.strip()}")
        Image.open(made).convert("RGB").save(out, "PNG", optimize=True)


def main(flags: Sequence[str]) -> int:
    """Runs the job; returns its exit code, as `rddrs_dist.cli.main` does."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("page", type=Path, help="HTML file that `rddrs report` wrote")
    parser.add_argument("--out", type=Path, required=True, help="PNG file to write")
    parser.add_argument("--width", type=int, default=1060)
    parser.add_argument("--height", type=int, default=2060)
    told = parser.parse_args(flags)
    try:
        photograph(**vars(told))
    except (ValueError, OSError, subprocess.TimeoutExpired) as error:
        print("rddrs: error: " + " ".join(str(error).split()), file=sys.stderr)
        return cli.WRONG
    print(f"wrote {told.out} ({told.out.stat().st_size / 1e3:.0f} kB)")
    return cli.COMPLETE


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
