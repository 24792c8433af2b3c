"""A classifier's files: one per region, and one that says all the rest and is written last."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from rddrs_dist.certify import Budget
from rddrs_dist.disjoint.memory import Entry
from rddrs_dist.methods import DDRS, METHODS, Method
from rddrs_dist.neighbours import Neighbours
from rddrs_dist.noise import Packed, pack, unpack
from rddrs_dist.results import files as parts

SCHEMA_VERSION = 1
NAME = "classifier.json"
_REGION = re.compile(r"region-\d{6,}-[0-9a-f]{16}\.safetensors")
_NUMBERS = ("prediction", "radius", "min_axis", "max_axis", "stretch", "query")


def facts(
    model: nn.Module, method: Method, reference: Neighbours | None, start: DDRS
) -> dict[str, Any]:
    """What a classifier was made from, as it goes into JSON.

    Raises:
        ValueError: If the method is none that can be loaded.
    """
    if METHODS.get(method.name) is not type(method):
        raise ValueError(
            f"method must be one of {', '.join(METHODS)} to be saved, got "
            f"{type(method).__name__}: add it to METHODS"
        )
    return {
        "network_sha256": _tensors_sha256(model.state_dict()),
        "reference_sha256": _reference_sha256(reference),
        "method": {"name": method.name, **_fields(method)},
        "start": _fields(start),
    }


def _fields(method: Method) -> dict[str, Any]:
    """Hyper-parameters; a method is a frozen dataclass."""
    return asdict(method)  # pyright: ignore[reportArgumentType]


def _tensors_sha256(tensors: Mapping[str, Tensor]) -> str:
    """Hash of names, types, shapes and numbers."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        own = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {own.dtype} {tuple(own.shape)} ".encode())
        digest.update(own.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _reference_sha256(reference: Neighbours | None) -> str | None:
    """Hash of the training images, if there are any."""
    if reference is None:
        return None
    return _tensors_sha256({"images": reference.images, "labels": reference.labels})


def write(folder: Path, known: Mapping[str, Any], entries: Sequence[Entry]) -> None:
    """Writes regions that are not there yet, then the file that names them.

    Regions never change, and their files are named after their content: whatever stops this, the
    folder holds the earlier state or the new one.

    Raises:
        OSError: If it could not be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        records = [_write_region(folder, number, entry) for number, entry in enumerate(entries)]
        content = {"schema_version": SCHEMA_VERSION, **known, "entries": records}
        parts.replace_json(folder / NAME, content | {"sha256": _sha256(content)})
        kept = {record["file"] for record in records}
        for file in folder.iterdir():
            if _REGION.fullmatch(file.name) and file.name not in kept:
                file.unlink()
    except OSError as error:
        reason = parts.reason(error.__cause__ or error)
        raise OSError(
            error.errno,
            f"classifier {folder} was not written: {reason}; make room or name another folder",
        ) from error


def _write_region(folder: Path, number: int, entry: Entry) -> dict[str, Any]:
    """Writes the arrays of one entry, and returns the rest of it."""
    (packed,) = pack(entry.noise)
    values = torch.from_numpy(packed.values.copy())
    content = save({"centre": entry.centre, "narrow": entry.narrow, "scale": values})
    sha256 = hashlib.sha256(content).hexdigest()
    file = folder / f"region-{number:06d}-{sha256[:16]}.safetensors"
    if not file.exists():
        parts.replace(file, content)
    numbers = {name: getattr(entry, name) for name in _NUMBERS}
    return {"file": file.name, "sha256": sha256, "kind": packed.kind, **numbers}


def _sha256(content: Mapping[str, Any]) -> str:
    """Hash of what is in the JSON file."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def read(
    folder: Path, model: nn.Module, reference: Neighbours | None
) -> tuple[dict[str, Any], list[Entry]]:
    """Reads a classifier.

    Returns:
        sigma, seed, event_shape, queries, budget, method and start; and the entries.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If it is damaged, or of another network or reference.
    """
    content = _content(folder / NAME)
    network = _tensors_sha256(model.state_dict())
    _check_same(folder, "network", content.get("network_sha256"), network)
    images = _reference_sha256(reference)
    _check_same(folder, "reference", content.get("reference_sha256"), images)
    try:
        shape = tuple(content["event_shape"])
        entries = [_entry(folder / record["file"], record, shape) for record in content["entries"]]
        return _made(content) | {"event_shape": shape}, entries
    except (KeyError, TypeError) as error:
        raise _damaged(folder / NAME, f"fields that do not fit ({error})") from error


def _made(content: Mapping[str, Any]) -> dict[str, Any]:
    """What a classifier is made from, out of JSON."""
    known = {name: content[name] for name in ("sigma", "seed", "queries")}
    method = dict(content["method"])
    own = METHODS[method.pop("name")]
    made = {"method": own(**_tuples(method)), "start": DDRS(**_tuples(content["start"]))}
    return known | made | {"budget": Budget(**content["budget"])}


def _content(path: Path) -> dict[str, Any]:
    """What is in the JSON file, if it is whole."""
    if not path.is_file():
        raise FileNotFoundError(f"no classifier in {path.parent}: name a folder made by save()")
    try:
        content = json.loads(path.read_bytes())
        version, sha256 = content["schema_version"], content.pop("sha256")
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        raise _damaged(path, parts.reason(error)) from error
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


def _check_same(folder: Path, what: str, wanted: str | None, got: str | None) -> None:
    """Refuses another network or reference."""
    if wanted != got:
        names = [one and one[:12] for one in (wanted, got)]
        raise ValueError(
            f"classifier {folder} was made with the {what} of sha256 {names[0]}, got {names[1]}: "
            "pass the one it was made with"
        )


def _entry(path: Path, record: Mapping[str, Any], event_shape: tuple[int, ...]) -> Entry:
    """One region."""
    try:
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() != record["sha256"]:
            raise _damaged(path, f"{len(content)} bytes of another hash")
        arrays = load(content)
    except (OSError, SafetensorError) as error:
        raise _damaged(path, parts.reason(error)) from error
    noise = unpack([Packed(record["kind"], arrays["scale"].numpy())], event_shape)
    numbers = {name: record[name] for name in _NUMBERS}
    return Entry(centre=arrays["centre"], narrow=arrays["narrow"], noise=noise, **numbers)


def _tuples(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of a method, whose sequences are tuples, which JSON does not know."""
    return {
        key: tuple(value) if isinstance(value, list) else value for key, value in fields.items()
    }
