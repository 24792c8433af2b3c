"""Tables of what the scaling trial found, and the prediction for the CIFAR-10 test set."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd
import torch

from rddrs_dist.networks import build
from rddrs_dist.run.costs import TERMS, Rates, memory, seconds
from rddrs_dist.run.scaling import efficiencies, multipliers

from .actors import Block
from .measure import Found
from .options import Trial
from .rates import activations

CIFAR = {"images": 10_000, "training": 50_000, "shape": (3, 32, 32)}
_D = 3072
_SHARDS = (1, 16, 64)  # images, for the memory of one worker


def actors_table(blocks: Sequence[Block]) -> pd.DataFrame:
    """One row per round and number of actors; memory is the mean of the actors, in MiB."""
    found = efficiencies([(block.actors, block.rate) for block in blocks])
    rows = []
    for block in blocks:
        held = pd.DataFrame(block.resident, columns=["unique", "shared", "peak"]).mean() / 2**20
        row = {
            "round": block.round,
            "actors": block.actors,
            "images_per_hour": 3600 * block.rate,
            "efficiency": found[block.actors][block.round],
            "ready_seconds": float(np.median(block.ready)),
            "ready_seconds_most": max(block.ready),
        }
        rows.append(row | {f"{name}_mib": value for name, value in held.items()})
    return pd.DataFrame(rows)


def dimension_table(found: Sequence[Found]) -> pd.DataFrame:
    """One row per data set and method: seconds measured and predicted, by phase and term."""
    rows = []
    for one in found:
        terms = seconds(one.cost, one.rates)
        row = {
            "dataset": one.dataset,
            "dimension": one.dimension,
            "method": one.method,
            "steps": one.steps,
            "seconds": one.seconds,
            "predicted": sum(terms.values()),
        }
        row |= terms
        for phase in one.phases:
            row[f"{phase.name}_seconds"] = phase.seconds
            row[f"{phase.name}_predicted"] = sum(seconds(phase.cost, one.rates).values())
            row[f"{phase.name}_factor"] = phase.factor
        rows.append(row | asdict(one.cost))
    return pd.DataFrame(rows)


def fitted(table: pd.DataFrame) -> dict[str, float]:
    """By how much each term of the prediction is off, and the median error with and without."""
    parts, measured = table[list(TERMS)].to_numpy(), table["seconds"].to_numpy()
    told, errors = {}, {"as predicted": parts.sum(1)}
    if len(parts) > len(TERMS):  # fewer cases than that any weights would suit
        found = multipliers(parts, measured)
        told = {f"times {term}": float(x) for term, x in zip(TERMS, found, strict=True)}
        errors["refitted"] = parts @ found
    for name, guess in errors.items():
        told[f"median error, {name}"] = float(np.median(np.abs(guess / measured - 1)))
    return told


def prediction(trial: Trial, found: Sequence[Found], told: dict[str, Any] | None) -> pd.DataFrame:
    """One row per method and number of devices: hours for the whole test set.

    With rates of a device from a file, counted work over these rates. Without, the seconds
    measured here on CIFAR-10; no row where there are none.
    """
    rows = []
    for one in _largest(found):
        if told is not None:
            terms = seconds(one.cost.rescaled(_D / one.dimension), Rates.of_device(told))
            per_image = sum(terms.values())
        elif one.dimension == _D:
            per_image = one.seconds
        else:
            continue
        hours = CIFAR["images"] * per_image / 3600
        rows += [
            {"method": one.method, "seconds": per_image, "devices": k, "hours": hours / k}
            for k in trial.devices
        ]
    return pd.DataFrame(rows)


def _largest(found: Sequence[Found]) -> list[Found]:
    """What was measured on the data set of the highest dimension."""
    most = max(one.dimension for one in found)
    return [one for one in found if one.dimension == most]


def memory_table(trial: Trial, device: str) -> pd.DataFrame:
    """MiB of one worker on CIFAR-10, by the images of a shard."""
    model = build("resnet20", CIFAR["shape"], 10).eval()
    image = torch.zeros(1, *CIFAR["shape"])
    rows = []
    for images in _SHARDS:
        parts = memory(
            CIFAR["shape"],
            images,
            trial.settings.rddrs_tr.samples,
            trial.n,
            activations=activations(model, image),
            weights=float(sum(weight.nbytes for weight in model.state_dict().values())),
            training=CIFAR["training"] * 4.0 * _D,
            device=device,
        )
        held = {name: size / 2**20 for name, size in parts.items()}
        rows.append({"images": images, **held, "total": sum(held.values())})
    return pd.DataFrame(rows)


def records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """A table as JSON has it."""
    return json.loads(str(table.to_json(orient="records", double_precision=15)))
