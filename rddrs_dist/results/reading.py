"""Reads runs back: one folder, or several for one figure, with nothing mixed silently."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from rddrs_dist.analysis.curves import lines, select
from rddrs_dist.analysis.logs.marks import is_log
from rddrs_dist.results import disjoint as sound
from rddrs_dist.results import files as parts
from rddrs_dist.results.columns import KEY, LOG_SCHEMA, TIMINGS, read_metadata


def read(directory: str | Path, *, sound_columns: bool = True) -> pd.DataFrame:
    """Reads all parts of a run as one frame, sorted by method and index.

    Files whose names start with `_` or `.` are ignored. Rows that a retry wrote twice are
    kept once; they may differ in their timings only.

    Args:
        directory: Folder of a run, as given to `--out`.
        sound_columns: Whether to add what a soundness pass has found, where one was made.

    Returns:
        A frame with the columns of `schema.SCHEMA`, and those of `sound.SCHEMA` where a soundness
        pass was made. Its `attrs` hold run_id, config, dataset
        (name, or None), metadata (the hashes and versions), and complete (whether the run
        was marked as complete).

    Raises:
        FileNotFoundError: If the folder does not exist or has no part.
        ValueError: If a part cannot be read, parts are of different runs, or duplicate rows
            differ.
    """
    folder = Path(directory)
    tables = [parts.read_part(path) for path in _part_files(folder)]
    attrs = _attributes(folder, [read_metadata(table.schema) for table in tables])
    bare = [table.replace_schema_metadata(None) for table in tables]
    frame = pa.concat_tables(bare).to_pandas()
    frame["contains_ddrs_ball"] = frame["contains_ddrs_ball"].astype("boolean")
    frame = _without_duplicates(frame, str(folder)).sort_values(["method", "index"])
    frame = frame.reset_index(drop=True)
    frame = sound.join(frame, folder) if sound_columns else frame
    frame.attrs.update(attrs)
    return frame


def read_many(directories: Sequence[str | Path], *, common: bool = False) -> pd.DataFrame:
    """Reads several runs into one frame whose curves may be drawn beside each other.

    Args:
        directories: Folders of runs; a run may be given twice or be spread over copies.
        common: Whether to keep, for each sigma, only the images that every run has; otherwise
            runs of one sigma must be over the same images.

    Returns:
        The frame of `read` with a column `run` (the folder). Its `attrs` hold dataset,
        complete (whether all runs are), common and runs (the `attrs` of each folder).

    Raises:
        FileNotFoundError: If a folder does not exist or has no part.
        ValueError: If no folder is given, the runs are of different data sets, hold the same
            method at the same sigma twice, or are over different images or of different networks
            at one sigma. Of an imported log data and network are not known, so that only the name
            of its data set and its labels are held against those of the others.
    """
    if not directories:
        raise ValueError("at least one folder of a run is wanted, got none; name one")
    frames = {str(directory): read(directory) for directory in directories}
    runs = {name: dict(frame.attrs) for name, frame in frames.items()}
    _check_datasets(runs)
    logs = any(map(is_log, runs.values()))
    frame = pd.concat([_labelled(frame, name, logs) for name, frame in frames.items()])
    frame = _without_duplicates(frame, " and ".join(frames), key=("run_id", *KEY))
    _check_methods(frame)
    _check_labels(frame)
    _check_networks(frame, runs)
    frame = _common_images(frame) if common else _same_images(frame)
    frame = frame.drop(columns="run_id").sort_values(["method", "sigma", "index"])
    frame = frame.reset_index(drop=True)
    frame.attrs.update(
        dataset=next(iter(runs.values()))["dataset"],
        complete=all(attrs["complete"] for attrs in runs.values()),
        common=common,
        runs=runs,
    )
    return frame


def _part_files(folder: Path) -> list[Path]:
    """Lists the parts of a run, and raises where there is nothing to read."""
    if not folder.is_dir():
        raise FileNotFoundError(
            f"no run in {folder}: the folder does not exist; give the folder that was --out"
        )
    files = list(parts.part_paths(folder).values())
    if not files:
        raise FileNotFoundError(
            f"no run in {folder}: it holds no part-*.parquet; give the folder that was --out, or "
            "wait for the run's first part"
        )
    return files


def _attributes(folder: Path, metadata: list[dict[str, str]]) -> dict[str, Any]:
    """Returns what the frame tells of its run, from the metadata of all parts."""
    ids = sorted({own.get("run_id", "(none)") for own in metadata})
    if len(ids) > 1:
        raise ValueError(
            f"parts in {folder} must be of one run, got runs {', '.join(ids)}; continue the run "
            "with --resume, which sets foreign parts aside"
        )
    own = metadata[0]
    config = json.loads(own.pop("config", "{}"))
    return {
        "run_id": own.pop("run_id", None),
        "config": config,
        "dataset": config.get("dataset"),
        "metadata": own,
        "complete": (folder / parts.SUCCESS).exists(),
    }


def _without_duplicates(frame: pd.DataFrame, where: str, key: Sequence[str] = KEY) -> pd.DataFrame:
    """Drops rows that repeat a key, and raises where repeats differ in more than timings."""
    compared = [name for name in frame.columns if name not in (*TIMINGS, "run")]
    distinct = frame.drop_duplicates(compared)  # NaN counts as equal to NaN here
    repeated = distinct.loc[distinct.duplicated(list(key), keep=False)]
    if len(repeated):
        index, method = repeated["index"].iloc[0], repeated["method"].iloc[0]
        twins = repeated.loc[(repeated["index"] == index) & (repeated["method"] == method)]
        unequal = [name for name in compared if len(set(map(repr, twins[name]))) > 1]
        raise ValueError(
            f"rows of {where} repeat image {index} with method {method} but differ in "
            f"{', '.join(unequal)}; a rerun must give the same row, so certify again into a "
            "fresh --out"
        )
    return distinct


def _labelled(frame: pd.DataFrame, run: str, logs: bool) -> pd.DataFrame:
    """Adds the columns that tell runs apart; beside logs, whole numbers may be null."""
    labelled = frame.assign(run=run, run_id=frame.attrs["run_id"])
    labelled.attrs.clear()  # pandas compares attrs when frames are joined
    if not logs:
        return labelled
    # One type in all frames, or pandas would choose by what is in them.
    whole = [one.name for one in LOG_SCHEMA if one.nullable and pa.types.is_integer(one.type)]
    return labelled.astype(dict.fromkeys(whole, "float64"))


def _check_datasets(runs: dict[str, dict[Any, Any]]) -> None:
    """Raises where runs are of different data sets, or of different splits of one."""
    names = {own["dataset"] for own in runs.values()}
    kinds = {own["metadata"].get("data_sha256") for own in runs.values() if not is_log(own)}
    if len(names) > 1 or len(kinds) > 1:
        described = ", ".join(
            f"{run} is of {own['dataset'] or 'unnamed data (name it with --dataset)'}"
            if is_log(own)
            else f"{run} is of {own['dataset']} ({str(own['metadata'].get('data_sha256'))[:12]})"
            for run, own in runs.items()
        )
        raise ValueError(
            f"runs of one figure must be of one data set, got: {described}; draw them apart"
        )


def _check_methods(frame: pd.DataFrame) -> None:
    """Raises where one line of the figure would mix two different runs."""
    for sigma, method in lines(frame):
        rows = select(frame, method=method, sigma=sigma)
        if len(set(rows["run_id"])) > 1:
            names = " and ".join(sorted(set(rows["run"])))
            raise ValueError(
                f"method {method} at sigma {sigma} must come from one run, got {names}; leave "
                "one of them out or draw them apart"
            )


def _check_labels(frame: pd.DataFrame) -> None:
    """Raises where one image has two labels: a log of another split, or in another order."""
    known = frame.drop_duplicates(["index", "label"])
    twice = known.loc[known.duplicated("index", keep=False)].sort_values("index")
    if len(twice):
        first, second = twice.iloc[:2].to_dict("records")
        raise ValueError(
            f"runs of one figure must have one label for each image, got for image "
            f"{first['index']} {first['label']} in {first['run']} and {second['label']} in "
            f"{second['run']}: they are of other data, or of another split; draw them apart"
        )


def _check_networks(frame: pd.DataFrame, runs: dict[str, dict[Any, Any]]) -> None:
    """Raises where lines of one panel are of different networks; those of logs are not known."""
    for sigma in sorted(set(frame["sigma"])):
        names = sorted(set(frame.loc[frame["sigma"] == sigma, "run"]))
        known = {run: _network(runs[run]) for run in names}
        known = {run: network for run, network in known.items() if network}
        if len(set(known.values())) > 1:
            got = ", ".join(f"{run} has {network}" for run, network in known.items())
            raise ValueError(
                f"runs at sigma {sigma} must be of one network, or a figure would show networks "
                f"as if they were methods, got (sha256): {got}; draw them apart"
            )


def _network(attrs: dict[Any, Any]) -> str:
    """The classifier that a run has smoothed; empty where it is not known."""
    weights, config = attrs["metadata"].get("weights_sha256"), attrs["config"]
    levels = config.get("levels")
    rounding = f" on pixels rounded to 1/{levels}" if levels else ""
    shorter = " in TF32" if config.get("precision") == "tf32" else ""
    return weights[:12] + rounding + shorter if weights else ""


def _same_images(frame: pd.DataFrame) -> pd.DataFrame:
    """Raises where runs of one sigma are over different images."""
    for sigma in sorted(set(frame["sigma"])):
        rows = frame.loc[frame["sigma"] == sigma]
        owners = sorted(set(zip(rows["run_id"], rows["run"], strict=True)))
        images = {run: frozenset(rows.loc[rows["run"] == run, "index"]) for _, run in owners}
        if len({run_id for run_id, _ in owners}) > 1 and len(set(images.values())) > 1:
            counts = ", ".join(f"{run} has {len(own)}" for run, own in images.items())
            shared = len(frozenset.intersection(*images.values()))
            raise ValueError(
                f"runs at sigma {sigma} must be over the same images, got: {counts}, {shared} in "
                "common; complete the runs, or ask for the common images only"
            )
    return frame


def _common_images(frame: pd.DataFrame) -> pd.DataFrame:
    """Keeps, for each sigma, the images that every method has."""
    shared: dict[float, set[int]] = {}
    for sigma, method in lines(frame):
        own = set(select(frame, method=method, sigma=sigma)["index"])
        shared[sigma] = shared.get(sigma, own) & own
        if not shared[sigma]:
            raise ValueError(
                f"methods at sigma {sigma} must have images in common, got none; draw them apart"
            )
    pairs = zip(frame["sigma"], frame["index"], strict=True)
    return frame.loc[[index in shared[sigma] for sigma, index in pairs]]
