"""Trained networks and the checkpoint files they are kept in.

A checkpoint is one safetensors file that says of itself which architecture it holds, for which
images and classes, and under which noise it was trained. Loading one never executes anything that
is in the file. The networks themselves are in `rddrs_dist.networks`.
"""

import hashlib
import io
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from rddrs_dist.networks import build, check_logits
from rddrs_dist.noise import Noise, Packed, pack, unpack

__all__ = ["Checkpoint", "build", "check_logits", "load", "read", "save"]

PIXEL_RANGE = (0.0, 1.0)
METADATA_KEY = "rddrs_dist"
# The tensor of the noise that all images share, beside those of the network.
UNIVERSAL = "universal_scale"


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A trained network in evaluation mode, its parameters frozen, and what is known of it."""

    model: nn.Module  # on the CPU
    architecture: str  # one of `networks.ARCHITECTURES`
    event_shape: tuple[int, ...]  # (C, H, W) of the images it takes
    classes: int  # number of logits
    sigma: float | None  # of the noise it was trained under, in pixels, if recorded
    sha256: str  # hash of the file
    universal: Noise | None = None  # of all images, of one image, that it was trained under


def save(
    path: str | Path,
    model: nn.Module,
    *,
    architecture: str,
    event_shape: tuple[int, ...],
    classes: int,
    sigma: float | None,
    universal: Noise | None = None,
) -> None:
    """Write a checkpoint as safetensors, whole or not at all.

    Args:
        path: File to write; its folder is made where it does not exist.
        model: Network made by `build` with the same architecture, event shape and classes.
        architecture: One of `networks.ARCHITECTURES`.
        event_shape: Shape (C, H, W) of the images it takes.
        classes: Number of logits.
        sigma: Standard deviation of the noise it was trained under, in pixels.
        universal: Noise of all images that it was trained under after that, of one image.

    Raises:
        ValueError: Where the network is not of that architecture or has weights that are not
            finite, so that it could not be loaded again.
        OSError: Where the file cannot be written.
    """
    metadata = {
        "architecture": architecture,
        "classes": classes,
        "event_shape": list(event_shape),
        "pixel_range": list(PIXEL_RANGE),
        "sigma": sigma,
    }
    name = f"network to be saved as {path}"
    state = {key: tensor.detach().cpu().contiguous() for key, tensor in model.state_dict().items()}
    _restore(state, _check_facts(metadata, name), name)
    if universal is not None:
        packed = pack(universal)[0]
        metadata["universal"] = packed.kind
        state[UNIVERSAL] = torch.from_numpy(packed.values)
    # One key, as safetensors writes several in random order and equal networks should hash alike.
    _write(Path(path), safetensors.torch.save(state, {METADATA_KEY: json.dumps(metadata)}))


def _write(path: Path, data: bytes) -> None:
    """Write a file through a temporary one beside it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        reason = error.strerror or str(error)
        raise OSError(f"cannot write checkpoint {path} ({reason}): name another file") from error


def read(path: str | Path) -> bytes:
    """Return the bytes of a checkpoint, for `load`; FileNotFoundError where there is none."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"no checkpoint file {path}: name an existing one or train it with `rddrs train`"
        )
    return path.read_bytes()


def load(source: str | Path | bytes, name: str | None = None) -> Checkpoint:
    """Load a checkpoint without executing anything that is in it.

    Args:
        source: Path or bytes of a safetensors file made by `save`, or of a state dict written by
            `torch.save` with the parameter names of `LeNet`; for the latter, sigma is unknown and
            images are taken to be square.
        name: What errors call it; by default its path, if it has one.

    Raises:
        FileNotFoundError: Where there is no such file.
        ValueError: Where it is damaged, holds anything but tensors, or suits no architecture.
    """
    name = name or ("checkpoint" if isinstance(source, bytes) else f"checkpoint {source}")
    data = source if isinstance(source, bytes) else read(source)
    universal = None
    if data[8:9] == b"{":  # after the header's length, 8 bytes
        state, metadata = _parse_safetensors(data, name)
        facts = _check_facts(metadata, name)
        universal = _parse_universal(state, metadata, facts["event_shape"], name)
    elif data[:2] == b"PK" or data[:1] == b"\x80":  # a zip archive or a bare pickle
        state = _parse_torch(data, name)
        facts = _lenet_facts(state)
    else:
        raise ValueError(
            f"{name} is neither safetensors nor a torch state dict ({len(data)} bytes): "
            "copy it again or train one with `rddrs train`"
        )
    sha256 = hashlib.sha256(data).hexdigest()
    model = _restore(state, facts, name)
    return Checkpoint(model=model, sha256=sha256, universal=universal, **facts)


def _parse_safetensors(data: bytes, name: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors and the metadata of a file made by `save`."""
    try:
        state = safetensors.torch.load(data)
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        metadata = json.loads(header.get("__metadata__", {}).get(METADATA_KEY, "null"))
    except (SafetensorError, ValueError) as error:
        raise ValueError(f"{name} is damaged ({_line(error)}): copy it again") from error
    if metadata is None:
        raise ValueError(
            f"{name} does not say which network it holds (no {METADATA_KEY!r} in its metadata): "
            "wanted a file written by `rddrs train` or rddrs_dist.checkpoints.save"
        )
    return state, metadata


def _parse_universal(
    state: dict[str, Tensor], metadata: dict[str, Any], event_shape: tuple[int, ...], name: str
) -> Noise | None:
    """Take the noise of all images out of the tensors, where metadata name its kind."""
    if (kind := metadata.get("universal")) is None:
        return None
    try:
        noise = unpack([Packed(str(kind), state.pop(UNIVERSAL).numpy())], event_shape)
        if noise.scale.dtype != torch.float32 or len(noise) != 1 or not noise.min_axis > 0:
            raise ValueError("wanted an invertible scale in single precision")
    except (KeyError, ValueError, TypeError, RuntimeError) as error:
        raise ValueError(
            f"{name} holds no usable noise for images of shape {event_shape} ({_line(error)}): "
            "train it again with `rddrs train --universal`"
        ) from error
    return noise


def _check_facts(metadata: dict[str, Any], name: str) -> dict[str, Any]:
    """Return the checked fields of `Checkpoint` that metadata tell."""
    try:
        sigma, pixel_range = metadata["sigma"], tuple(metadata["pixel_range"])
        facts = {
            "architecture": str(metadata["architecture"]),
            "event_shape": tuple(int(size) for size in metadata["event_shape"]),
            "classes": int(metadata["classes"]),
            "sigma": None if sigma is None else float(sigma),
        }
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{name} has unusable metadata ({error!r}): save it again") from error
    if pixel_range != PIXEL_RANGE:
        raise ValueError(f"{name} wants pixels in {pixel_range}, images here are in {PIXEL_RANGE}")
    if sigma is not None and not 0 <= facts["sigma"] < math.inf:
        raise ValueError(f"{name} has sigma {sigma}: wanted a finite number of at least 0")
    return facts


def _parse_torch(data: bytes, name: str) -> dict[str, Tensor]:
    """Return the tensors of a state dict written by `torch.save`."""
    try:
        state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # the kind depends on the byte at which a damaged file stops
        raise ValueError(
            f"{name} is damaged or holds more than tensors ({type(error).__name__}), and nothing "
            "in it was executed: copy it again, or save the network's state_dict() alone"
        ) from error
    if not isinstance(state, Mapping) or not all(isinstance(v, Tensor) for v in state.values()):
        got = ", ".join(map(str, state)) if isinstance(state, Mapping) else type(state).__name__
        raise ValueError(
            f"{name} must be a state dict, tensors by parameter name, got {got[:100]}: "
            "save the network's state_dict() instead"
        )
    return dict(state)


def _lenet_facts(state: dict[str, Tensor]) -> dict[str, Any]:
    """Return the image shape and classes that the tensors of a LeNet imply."""
    event_shape, classes = (1, 28, 28), 10  # to name the differences of any other network against
    first, last = state.get("conv1.0.weight"), state.get("out.weight")
    if first is not None and last is not None and first.ndim == 4 and last.ndim == 2:
        side = 4 * math.isqrt(last.shape[1] // 32)
        event_shape, classes = (first.shape[1], side, side), last.shape[0]
    return {"architecture": "lenet", "event_shape": event_shape, "classes": classes, "sigma": None}


def _restore(state: dict[str, Tensor], facts: dict[str, Any], name: str) -> nn.Module:
    """Return the network that the facts describe with the tensors of a state dict, all checked."""
    architecture, event_shape = facts["architecture"], facts["event_shape"]
    try:
        with torch.device("meta"):  # initialising for real would draw from the global generator
            model = build(architecture, event_shape, facts["classes"])
    except (ValueError, RuntimeError, TypeError) as error:
        raise ValueError(f"{name} describes no network: {_line(error)}") from error
    if differences := _differences(model.state_dict(), state):
        more = f" and {len(differences) - 3} more differences" if len(differences) > 3 else ""
        raise ValueError(
            f"{name} is not a {architecture} for images of shape {event_shape} and "
            f"{facts['classes']} classes: {'; '.join(differences[:3])}{more}"
        )
    if broken := [key for key, tensor in state.items() if not tensor.isfinite().all()]:
        raise ValueError(f"{name} has weights that are not finite in {', '.join(broken)}")
    model.to_empty(device="cpu").load_state_dict(state)
    return model.eval().requires_grad_(False)


def _differences(wanted: Mapping[str, Tensor], got: Mapping[str, Tensor]) -> list[str]:
    """Return what tells two state dicts apart in names, shapes and types, one phrase each."""
    differences = [f"missing {key}" for key in wanted if key not in got]
    differences += [f"unexpected {key}" for key in got if key not in wanted]
    theirs, ours = ({key: _kind(one) for key, one in each.items()} for each in (got, wanted))
    differences += [
        f"{key} is {theirs[key]}, wanted {kind}"
        for key, kind in ours.items()
        if theirs.get(key, kind) != kind
    ]
    return differences


def _kind(tensor: Tensor) -> str:
    """Return type and shape of a tensor in words."""
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"


def _line(error: Exception) -> str:
    """Return the first sentence or so of an error on one line."""
    return " ".join(str(error).split())[:160] or type(error).__name__
