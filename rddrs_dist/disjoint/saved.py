"""A classifier's files: one per region, and one that says all the rest and is written last."""

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from rddrs_dist.certify import Budget
from rddrs_dist.disjoint.memory import Entry
from rddrs_dist.methods import DDRS, METHODS
from rddrs_dist.neighbours import Neighbours
from rddrs_dist.noise import Packed, pack, unpack
from rddrs_dist.region import Region
from rddrs_dist.results import files

if TYPE_CHECKING:
    from rddrs_dist.disjoint.classifier import SmoothedClassifier

SCHEMA_VERSION = 2
NAME = "classifier.json"
_REGION = re.compile(r"region-\d{6,}-[0-9a-f]{16}\.safetensors")
_NUMBERS = ("prediction", "radius", "min_axis", "max_axis", "query")
_PLAIN = ("sigma", "seed", "queries")


def _hashes(model: nn.Module, neighbours: Neighbours | None) -> dict[str, str | None]:
    """What a classifier has to be loaded with."""
    known = neighbours and {"images": neighbours.images, "labels": neighbours.labels}
    return {
        "network_sha256": _tensors_sha256(model.state_dict()),
        "neighbours_sha256": _tensors_sha256(known) if known else None,
    }


def _tensors_sha256(tensors: Mapping[str, Tensor]) -> str:
    """Hash of names, types, shapes and numbers."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        own = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {own.dtype} {tuple(own.shape)} ".encode())
        digest.update(own.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def write(folder: Path, own: "SmoothedClassifier") -> None:
    """Writes regions that are not there yet, then the file that names them and all the rest.

    Regions never change, and their files are named after their content: whatever stops this, the
    folder holds the earlier state or the new one.
    """
    method = own.method
    if METHODS.get(method.name) is not type(method):
        raise ValueError(
            f"method must be one of {', '.join(METHODS)} to be saved, got "
            f"{type(method).__name__}: add it to METHODS"
        )
    folder.mkdir(parents=True, exist_ok=True)
    records = [_write_region(folder, number, entry) for number, entry in enumerate(own.memory)]
    content = {name: getattr(own, name) for name in _PLAIN} | _hashes(own.model, own.neighbours)
    content |= {"method": {"name": method.name, **vars(method)}, "start": vars(own.start)}
    content |= {"budget": vars(own.budget), "event_shape": list(own.event_shape)}
    content |= {"schema_version": SCHEMA_VERSION, "entries": records}
    files.replace_json(folder / NAME, content | {"sha256": _sha256(content)})
    kept = {record["file"] for record in records}
    for file in folder.iterdir():
        if _REGION.fullmatch(file.name) and file.name not in kept:
            file.unlink()


def _write_region(folder: Path, number: int, entry: Entry) -> dict[str, Any]:
    """Writes the arrays of one entry, and returns the rest of it."""
    (packed,) = pack(entry.region.noise)
    scale = torch.from_numpy(packed.values.copy())
    content = save({"centre": entry.region.centre, "narrow": entry.narrow, "scale": scale})
    sha256 = hashlib.sha256(content).hexdigest()
    file = folder / f"region-{number:06d}-{sha256[:16]}.safetensors"
    if not file.exists():
        files.replace(file, content, "save again")
    numbers = {name: getattr(entry, name) for name in _NUMBERS}
    return {"file": file.name, "sha256": sha256, "kind": packed.kind, **numbers}


def _sha256(content: Mapping[str, Any]) -> str:
    """Hash of what is in the JSON file."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def read(
    folder: Path, model: nn.Module, neighbours: Neighbours | None
) -> tuple[dict[str, Any], list[Entry]]:
    """Reads sigma, seed, event_shape, queries, budget, method and start; and the entries."""
    content = _content(folder / NAME)
    for name, got in _hashes(model, neighbours).items():
        wanted = content.get(name)
        if wanted != got:
            raise ValueError(
                f"classifier {folder} was made with the {name.removesuffix('_sha256')} of sha256 "
                f"{str(wanted)[:12]}, got {str(got)[:12]}: pass the one it was made with"
            )
    try:
        known, shape = {name: content[name] for name in _PLAIN}, tuple(content["event_shape"])
        method = _tuples(content["method"])
        own = METHODS[method.pop("name")](**method)
        known |= {"method": own, "start": DDRS(**_tuples(content["start"]))}
        known |= {"event_shape": shape, "budget": Budget(**content["budget"])}
        return known, [_entry(folder, record, shape) for record in content["entries"]]
    except (KeyError, TypeError) as error:
        raise _damaged(folder / NAME, f"fields that do not fit ({error})") from error


def _content(path: Path) -> dict[str, Any]:
    """What is in the JSON file, if it is whole."""
    if not path.is_file():
        raise FileNotFoundError(f"no classifier in {path.parent}: name a folder made by save()")
    try:
        content = json.loads(path.read_bytes())
        version, sha256 = content["schema_version"], content.pop("sha256")
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        raise _damaged(path, files.reason(error)) from error
    if version != SCHEMA_VERSION:
        raise ValueError(
            f"{path} must have schema version {SCHEMA_VERSION}, got {version}: load it with the "
            "code that wrote it"
        )
    if sha256 != _sha256(content):
        raise _damaged(path, "content of another hash than it names")
    return content


def _damaged(path: Path, got: str) -> ValueError:
    """The error for a file that is not what it was."""
    return ValueError(f"{path} must be as save() wrote it, got {got}: copy the folder again")


def _entry(folder: Path, record: Mapping[str, Any], event_shape: tuple[int, ...]) -> Entry:
    """One region."""
    path = folder / record["file"]
    try:
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() != record["sha256"]:
            raise _damaged(path, f"{len(content)} bytes of another hash")
        arrays = load(content)
    except (OSError, SafetensorError) as error:
        raise _damaged(path, files.reason(error)) from error
    noise = unpack([Packed(record["kind"], arrays["scale"].numpy())], event_shape)
    numbers = np.array([record["radius"]]), np.array([record["prediction"]])
    own = {name: record[name] for name in ("query", "min_axis", "max_axis")}
    return Entry(Region(arrays["centre"], noise, *numbers), narrow=arrays["narrow"], **own)


def _tuples(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of a method, whose sequences are tuples, which JSON does not know."""
    return {k: tuple(own) if isinstance(own, list) else own for k, own in fields.items()}
