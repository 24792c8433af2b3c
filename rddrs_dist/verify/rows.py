"""Which rows there must be, and what each must say of the run and of its image."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from rddrs_dist.data.sets import ImageSet
from rddrs_dist.verify.findings import (
    Fault,
    Finding,
    Outcome,
    Row,
    located,
    over_rows,
    place,
    wrong,
)
from rddrs_dist.verify.folder import Config

_SETTINGS = ("sigma", "n0", "alpha", "seed")


def check_rows(rows: Sequence[Row], config: Config) -> Outcome:
    """Each image of the configuration has one row per method, in its own shard; no other has."""
    shards = {index: at // config.shard_size for at, index in enumerate(config.indices)}
    found = {index: Counter[str]() for index in config.indices}
    for row in rows:
        found.setdefault(row["index"], Counter())[row["method"]] += 1
    findings: list[Finding] = []
    for index, own in found.items():
        wanted = Counter(config.methods if index in shards else ())
        if own != wanted:
            faults = [wrong(_listed(wanted), _listed(own))]
            findings += located("rows", f"image {index}", faults)
    for row in rows:
        if row["shard"] != shards.get(row["index"], row["shard"]):
            faults = [wrong(f"shard {shards[row['index']]}", row["shard"])]
            findings += located("rows", place(row), faults)
    return Outcome("rows", f"{len(rows)} rows", tuple(findings))


def _listed(times: Mapping[str, int]) -> str:
    """Rows by method, in words."""
    return ", ".join(f"{count} of {method}" for method, count in sorted(times.items())) or "none"


def check_settings(rows: Sequence[Row], config: Config) -> Outcome:
    """Every row was made with the noise, the samples, the confidence and the seed of the run."""

    def judge(row: Row) -> Iterator[Fault]:
        for name in _SETTINGS:
            if row[name] != getattr(config, name):
                yield wrong(f"{name} {getattr(config, name)}", row[name])
        if row["n"] not in config.sizes:
            yield wrong(f"n {' or '.join(map(str, config.sizes))}", row["n"])
        if row["error"] is None and (row["others_inside"] is None) != (config.training is None):
            yield wrong("others_inside where there are training images", row["others_inside"])

    return over_rows("settings", rows, judge)


def check_verdicts(rows: Sequence[Row]) -> Outcome:
    """`correct` says whether the prediction is the label, one label per image."""
    labels: dict[int, int] = {}

    def judge(row: Row) -> Iterator[Fault]:
        label = labels.setdefault(row["index"], row["label"])
        if row["label"] != label:
            yield wrong(f"label {label}, as in another row of the image", row["label"])
        if row["correct"] != (row["prediction"] == row["label"]):
            yield wrong(f"correct {row['prediction'] == row['label']}", row["correct"])

    return over_rows("verdicts", rows, judge)


def check_labels(rows: Sequence[Row], images: ImageSet, config: Config) -> Outcome:
    """The data set is that of the run, and labels are its labels."""
    if images.sha256 != config.data:
        fault = wrong(f"the images of the run, sha256 {config.data}", images.sha256)
        return Outcome("labels", "0 rows", tuple(located("labels", images.name, [fault])))

    def judge(row: Row) -> Iterator[Fault]:
        if not 0 <= row["index"] < len(images):
            yield wrong(f"an image below {len(images)}", row["index"])
        elif row["label"] != images.labels[row["index"]]:
            yield wrong(f"label {images.labels[row['index']]}", row["label"])
        if row["prediction"] >= images.classes:
            yield wrong(f"a class below {images.classes}", row["prediction"])

    return over_rows("labels", rows, judge)
