"""All checks of a folder in order, and what each of them needs."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from rddrs_dist import checkpoints, data
from rddrs_dist.networks import PooledConvolution
from rddrs_dist.verify import certificates, regions, resampling, rows
from rddrs_dist.verify.apart import check_regions
from rddrs_dist.verify.files import check_config, check_manifest, check_parts
from rddrs_dist.verify.findings import Outcome, Row, located, over_rows, wrong
from rddrs_dist.verify.folder import Config, line, read_folder
from rddrs_dist.verify.printed import check_table, with_sizes
from rddrs_dist.verify.scales import Key, Stored, check_axes, check_scales
from rddrs_dist.version import __version__

_OF_A_ROW = {
    "radius": certificates.judge_radius,
    "sizes": certificates.judge_sizes,
    "given noise": certificates.judge_given_noise,
    "abstentions": certificates.judge_abstention,
    "errors": certificates.judge_error,
}


@dataclass(frozen=True, eq=False)
class _Case:
    """What there is to check with.

    Attributes:
        config: Of the run.
        rows: Rows whose numbers are numbers.
        stored: The scales.
        images: Its test images, or why there are none.
        checkpoint: Its network, or why there is none.
        data_root: Folder of the data.
    """

    config: Config
    rows: Sequence[Row]
    stored: Stored
    images: data.ImageSet | str
    checkpoint: checkpoints.Checkpoint | str
    data_root: Path | None

    @property
    def dimension(self) -> int | None:
        """Elements of an image; None where nothing tells."""
        known = (self.images, self.checkpoint)
        shapes = [one.event_shape for one in known if not isinstance(one, str)]
        return math.prod(shapes[0]) if shapes else None


def verify(
    directory: Path,
    *,
    checkpoint: Path | None = None,
    data_root: Path | None = None,
    resample: int = 0,
    tables: Sequence[Path] = (),
    pairs: int = 2000,
    seed: int = 0,
) -> list[Outcome]:
    """Checks a folder of results.

    Args:
        directory: The folder.
        checkpoint: The network that was certified.
        data_root: Folder of the data; by default as `data.load` has it.
        resample: Rows to draw again; wants a checkpoint, data and stored scales.
        tables: Tables that `rddrs curves` made of this run.
        pairs: Pairs of sound regions of each method that a plane is sought for, of those that
            neither distance nor a stored plane tells apart.
        seed: Chooses the rows to draw again, these pairs, and fresh streams.

    Returns:
        How each check went, those that could not be made among them.

    Raises:
        ValueError: If something that was given cannot be used.
        FileNotFoundError: If the folder, or something else that was given, is absent.
    """
    if min(resample, pairs, seed) < 0:
        raise ValueError(
            "--resample, --pairs and --seed must not be negative, "
            f"got {resample}, {pairs} and {seed}"
        )
    if resample and checkpoint is None:
        raise ValueError("--resample wants the network that was certified: give --checkpoint")
    folder = read_folder(directory)
    if folder.imported:
        raise ValueError(
            f"{directory} holds an imported log, which has no counts of samples, so that nothing "
            "in it can be verified; give a folder that `rddrs certify` wrote"
        )
    if folder.config is None:
        rest = Outcome("all else", skipped="the configuration cannot be read")
        return [check_config(folder), rest]
    config, found = folder.config, folder.rows
    outcomes = [
        check_config(folder),
        check_parts(folder, config),
        check_manifest(folder),
        rows.check_rows(found, config),
        rows.check_settings(found, config),
        rows.check_verdicts(found),
    ]
    images, labels = _images(found, config, data_root)
    network, own = _network(checkpoint, config)
    values = over_rows("values", found, certificates.judge_values)
    sane = [row for row in found if not any(certificates.judge_values(row))]
    case = _Case(config, sane, Stored(directory), images, network, data_root)
    outcomes += [labels, own, values, *_numbers(case), *_scales(case)]
    outcomes += _drawn(case, resample, seed)
    made, told = regions.read_pass(directory, sane)
    sized = with_sizes(sane, made, config.looks) if tables else []
    outcomes += [_table(path, sized, config, len(found)) for path in tables]
    outcomes += [] if tables else [Outcome("table", skipped="no --tables given")]
    return [*outcomes, *told, *(_soundness(case, made, directory, pairs, seed) if told else ())]


def _images(
    found: Sequence[Row], config: Config, root: Path | None
) -> tuple[data.ImageSet | str, Outcome]:
    """The images of the run, and the check of labels against them."""
    try:
        images = data.load(config.dataset, "test", root)
    except (ValueError, FileNotFoundError) as error:
        if root is not None:
            raise
        return line(error), Outcome("labels", skipped=line(error))
    outcome = rows.check_labels(found, images, config)
    return (images if images.sha256 == config.data else "the data set is another"), outcome


def _network(path: Path | None, config: Config) -> tuple[checkpoints.Checkpoint | str, Outcome]:
    """The network of the run, and the check that it is the one."""
    if path is None:
        return "no --checkpoint given", Outcome("checkpoint", skipped="no --checkpoint given")
    found = checkpoints.load(path)
    if found.sha256 == config.weights:
        return found, Outcome("checkpoint", "1 file")
    fault = wrong(f"the network of the run, sha256 {config.weights}", found.sha256)
    findings = tuple(located("checkpoint", str(path), [fault]))
    return "the checkpoint is another", Outcome("checkpoint", "1 file", findings)


def _numbers(case: _Case) -> Iterator[Outcome]:
    """Checks that want nothing but rows, and perhaps the size of an image."""
    yield certificates.check_p_lower(case.rows, case.config.looks)
    for name, judge in _OF_A_ROW.items():
        yield over_rows(name, case.rows, judge)
    yield certificates.check_ddrs_ball(case.rows, case.config.methods)
    if case.dimension is None:
        yield Outcome("volumes", skipped=_sizeless(case))
    else:
        yield certificates.check_volumes(case.rows, case.dimension)


def _sizeless(case: _Case) -> str:
    """Why the size of an image is not known."""
    return f"neither data nor checkpoint tell the size of an image ({case.images})"


def _scales(case: _Case) -> list[Outcome]:
    """Checks of stored scales."""
    if not case.stored.files:
        why = "no _scales-*.safetensors; rddrs certify --save-scales writes them"
    elif case.dimension is None:
        why = _sizeless(case)
    else:
        d = case.dimension
        by_squares = case.config.device == "cuda"
        axes = check_axes(case.rows, case.stored, d, by_squares)
        return [check_scales(case.rows, case.stored, d), *axes]
    return [Outcome(name, skipped=why) for name in ("scales", "axes", "capped sizes")]


def _soundness(
    case: _Case, sound: Mapping[Key, Row], folder: Path, most: int, seed: int
) -> Iterator[Outcome]:
    """Checks of the rows of a soundness pass."""
    own, narrowed = case.stored, Stored(folder, regions.NARROWED)
    if isinstance(case.images, str) or not own.files:
        why = case.images if isinstance(case.images, str) else "no scale is stored"
        names = ("sound sizes", "sound scales", "sound pairs", "nearest conflicts")
        yield from (Outcome(name, skipped=why) for name in names)
        return
    certified = {(row["method"], row["index"]): row for row in case.rows}
    certified = {key: certified[key] for key in sound}
    known = regions.Pass(sound, certified, own, narrowed, math.prod(case.images.event_shape))
    yield regions.check_sizes(known)
    yield regions.check_scales(known)
    yield from check_regions(known, case.images.images, folder, most, seed)


def _drawn(case: _Case, count: int, seed: int) -> list[Outcome]:
    """Checks that draw samples, or count training images."""
    names = ("redrawn", "fresh samples", "others inside")
    redrawing = _redrawing(case, count)
    if isinstance(redrawing, str) or isinstance(case.images, str):
        return [Outcome(name, skipped=str(redrawing)) for name in names]
    chosen = resampling.chosen_rows(case.rows, redrawing, case.images.classes, count, seed)
    made_by = case.config.plain.get("code_version")
    if made_by != __version__:
        why = f"the streams are those of rddrs_dist {made_by}, and this is {__version__}"
        redrawn = Outcome("redrawn", skipped=why)
    elif redrawing.images.device.type == case.config.device:
        redrawn = resampling.check_redrawn(chosen, redrawing)
    else:
        redrawn = Outcome("redrawn", skipped="the streams were drawn on a GPU; torch finds none")
    fresh = resampling.check_fresh(chosen, redrawing, seed)
    return [redrawn, fresh, _others_inside(chosen, redrawing, case)]


def _redrawing(case: _Case, count: int) -> resampling.Redrawing | str:
    """What is needed to draw again, or why it is not there."""
    if not count:
        return "no --resample given"
    if not case.stored.files:
        return "no scale is stored"
    if isinstance(case.images, str) or isinstance(case.checkpoint, str):
        return next(why for why in (case.images, case.checkpoint) if isinstance(why, str))
    if case.checkpoint.event_shape != case.images.event_shape:
        return "the network takes images of another shape"
    on_gpu = case.config.device == "cuda" and torch.cuda.is_available()
    device = torch.device("cuda" if on_gpu else "cpu")
    model = _apart(case.checkpoint.model.to(device))
    images = torch.from_numpy(case.images.images).to(device)
    return resampling.Redrawing(model, images, case.config, case.stored)


def _apart(model: nn.Module) -> nn.Module:
    """A network by torch's own operations, and not by the kernels that a run may have had."""
    for name, part in list(model.named_children()):
        if isinstance(part, PooledConvolution):
            setattr(model, name, part.apart())
    return model


def _others_inside(chosen: Sequence[Row], redrawing: resampling.Redrawing, case: _Case) -> Outcome:
    """The check of others_inside, where the training images are those of the run."""
    try:
        training = data.load(case.config.dataset, "train", case.data_root)
    except (ValueError, FileNotFoundError) as error:
        return Outcome("others inside", skipped=line(error))
    if training.sha256 != case.config.training:
        return Outcome("others inside", skipped="the training images are not those of the run")
    known = (torch.from_numpy(training.images), torch.from_numpy(training.labels))
    return resampling.check_others_inside(chosen, redrawing, known)


def _table(path: Path, rows: Sequence[Row], config: Config, rows_found: int) -> Outcome:
    """The check of one printed table."""
    if len(rows) < rows_found:
        return Outcome("table", skipped=f"{path}: some rows hold no numbers to compute it from")
    return check_table(path, rows, config)
