"""Writes small logs and small runs for the tests of interchange."""

from pathlib import Path

from rddrs_dist.analysis.logs.importing import Import, import_log
from rddrs_dist.results.store import Store

COHEN = "idx label predict radius correct time"
DDRS = "idx label predict radius correct sigma time"
ANCER = "idx label predict radius radius_proxy correct min_sigma time"
LINES = ["0 3 3 0.953 1 0:00:13.736080", "7 3 -1 0.0 0 15.4", "9 3 8 1.2e-05 0 0:00:02"]


def log(path: Path, *lines: str, header: str = COHEN) -> Path:
    """Writes a log; spaces stand for its tabs, and ~ for its spaces."""
    text = "".join(line + "\n" for line in (header, *lines))
    path.write_bytes(text.replace(" ", "\t").replace("~", " ").encode())
    return path


def take(files: list[Path] | Path, out: Path, **changes) -> Path:
    """Imports logs at sigma 0.5 as images of digits."""
    options = {"name": "cohen", "sigma": 0.5, "dataset": "digits"} | changes
    import_log(Import(tuple([files] if isinstance(files, Path) else files), out, **options))
    return out


def run(
    out: Path,
    rows: list[dict],
    run_id: str = "one",
    config: dict | None = None,
    **metadata: str,
) -> Path:
    """Writes a run of one part."""
    whole = {"dataset": "digits"} | (config or {})
    with Store.open(out, run_id=run_id, config=whole, metadata=metadata) as store:
        store.write(0, rows)
        store.complete({})
    return out
