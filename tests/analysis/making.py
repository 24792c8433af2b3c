"""Makes lines, small logs and small runs for the tests of analysis."""

from pathlib import Path

from rddrs_dist.analysis.lines import Line, lines_of
from rddrs_dist.analysis.logs import read_log
from rddrs_dist.results import Source
from rddrs_dist.results.columns import table
from rddrs_dist.results.store import Store

COHEN = "idx label predict radius correct time"
DDRS = "idx label predict radius correct sigma time"
ANCER = "idx label predict radius radius_proxy correct min_sigma time"
LINES = ["0 3 3 0.953 1 0:00:13.736080", "7 3 -1 0.0 0 15.4", "9 3 8 1.2e-05 0 0:00:02"]


def lines(
    *groups: list[dict], config: dict | None = None, complete: bool = True, **columns
) -> list[Line]:
    """The lines of rows that are in no folder, with further columns."""
    frame = table([row for group in groups for row in group], {}).to_pandas().assign(**columns)
    whole = {"dataset": "digits"} | (config or {})
    return lines_of(Source(Path("runs/somewhere"), "abc", whole, {}, complete), frame)


def log(path: Path, *entries: str, header: str = COHEN) -> Path:
    """Writes a log; spaces stand for its tabs, and ~ for its spaces."""
    text = "".join(line + "\n" for line in (header, *entries))
    path.write_bytes(text.replace(" ", "\t").replace("~", " ").encode())
    return path


def logged(path: Path, *entries: str, header: str = COHEN, **changes) -> Line:
    """The line of a log, at sigma 0.5."""
    log(path, *(entries or LINES), header=header)
    return read_log(path, **{"name": "cohen", "sigma": 0.5} | changes)


def run(
    out: Path,
    rows: list[dict],
    run_id: str = "one",
    config: dict | None = None,
    done: bool = True,
    size: int = 1,
    **metadata: str,
) -> Path:
    """Writes a run with `size` rows in each part."""
    whole = {"dataset": "digits"} | (config or {})
    with Store.open(out, run_id=run_id, config=whole, metadata=metadata) as store:
        for shard, start in enumerate(range(0, len(rows), size)):
            store.write(shard, [row | {"shard": shard} for row in rows[start : start + size]])
        if done:
            store.complete({})
    return out
