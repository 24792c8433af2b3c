"""What one certificate holds, in words."""

from collections.abc import Iterator

from rddrs_dist.analysis.lines import Line
from rddrs_dist.analysis.tables import floor_to
from rddrs_dist.families import FAMILIES


def explained(lines: list[Line], index: int) -> str:
    """What the rows of one image say, one paragraph for each line of a run that has it.

    Raises:
        ValueError: If none has.
    """
    told = ["\n".join(_of_row(line, index)) for line in lines if index in set(line.rows["index"])]
    if not told:
        count = len({one for line in lines for one in line.rows["index"]})
        raise ValueError(f"image {index} must be one of the {count} images of the run: it is not")
    return "\n\n".join(told) + "\n"


def _of_row(line: Line, index: int) -> Iterator[str]:
    """The sentences about one row."""
    place = int((line.rows["index"] == index).to_numpy().argmax())
    row = line.rows.iloc[place]
    dataset = line.source.config["dataset"]
    yield f"{line.label}, test image {index} of {dataset}, sigma {line.sigma:g}"
    if line.abstained[place]:
        yield f"  Nothing is certified. {row['error'] or 'No class has a sure majority.'}"
        return
    label = "which is its label" if line.right[place] else f"but its label is {row['label']}"
    yield f"  Class {row['prediction']}, {label}."
    wrong = f"{100 * row['alpha']:g} %"
    yield (
        "  The classifier is the network under the noise of this row. Its answer is the same for "
        f"all images below, unless the samples mislead: that has a probability of {wrong} at most."
    )
    yield f"  - Any change of an l2 norm of less than {_floored(row['l2_radius'])}."
    for family in FAMILIES:
        value = line.column(family.column)[place]
        if value > 0:
            yield f"  - {family.name.capitalize()} of up to {_floored(value)} {family.unit}."
    named = line.column("aim_scale")[place]
    if named >= 0:
        yield "  - All mixtures of these in pixel space. Not one change after another."
        yield f"  Of the changes that the run names it holds {100 * floor_to(named, 4):g} %."
    yield _sight(line, place)


def _sight(line: Line, place: int) -> str:
    """What the classifier of a row still sees."""
    blind, most = (line.column(name)[place] for name in ("blindness", "blindness_upper"))
    if not blind >= 0:
        return "  Whether this classifier tells images apart was not measured."
    counts = "counts" if line.is_sighted[place] else "does not count: it is too blind"
    return (
        f"  At training images of other labels it gives this class {100 * blind:.2f} % of the "
        f"time, at most {100 * most:.2f} %. The row {counts}."
    )


def _floored(value: float) -> str:
    return f"{floor_to(value, 4):g}"
