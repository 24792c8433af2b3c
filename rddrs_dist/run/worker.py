"""The worker: fits and certifies one shard after another with one copy of the network."""

import math
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rddrs_dist.certify import certify
from rddrs_dist.checkpoints import load
from rddrs_dist.cuda.swap import has_kernel, swapped
from rddrs_dist.families import inside
from rddrs_dist.methods import DDRS, Aim, Context, Fit, Method, MethodError, Status, fit_all
from rddrs_dist.neighbours import Neighbours
from rddrs_dist.noise import IsotropicNoise, Noise, Packed, pack, unpack
from rddrs_dist.region import Floats, Integers, Region
from rddrs_dist.results.columns import Computed, rows_of
from rddrs_dist.run.experiment import Execution, Experiment
from rddrs_dist.run.scheduler import Shard
from rddrs_dist.sight import blind_samples
from rddrs_dist.smoothing import Batching, Smoothed, Streams

Row = dict[str, Any]


class Training(NamedTuple):
    """The training images as they are sent to workers.

    Attributes:
        images: (N, *event).
        labels: (N,).
        basis: Principal subspace of the images, (d, k); None where sight is not measured.
        sizes: How many of its columns each data radius is about.
    """

    images: NDArray[np.float32]
    labels: NDArray[np.int64]
    basis: NDArray[np.float64] | None = None
    sizes: tuple[int, ...] = ()


@dataclass(frozen=True, eq=False)
class Done:
    """What a worker made of a shard: rows without label and verdict, and scales if wanted."""

    rows: list[Row]
    scales: dict[tuple[str, int], Packed]


class Worker:
    """A network on a device, ready to do shards."""

    def __init__(
        self,
        experiment: Experiment,
        execution: Execution,
        checkpoint: bytes,
        training: Training | None,
        universal: Packed | None = None,
    ) -> None:
        """Loads the network from the bytes of its checkpoint: workers need no file.

        The noise that all images share is there where it is known by now.

        Raises:
            ValueError: If a GPU is wanted and torch finds none.
        """
        torch.set_num_threads(experiment.threads)
        if experiment.device == "cuda" and not torch.cuda.is_available():
            raise ValueError(
                "a GPU was assigned to this worker but torch finds none: install torch with CUDA "
                "or set --gpus-per-actor 0"
            )
        self.experiment, self.execution = experiment, execution
        self.device = torch.device(experiment.device)
        # Convolutions are up to twice as fast with channels last, on CPUs and GPUs alike.
        loaded = load(checkpoint)
        model = loaded.model.to(self.device).to(memory_format=torch.channels_last)
        if has_kernel(self.device):
            model = swapped(model)
        batching, memory = Batching(), self._memory()
        if memory < math.inf:
            image = torch.zeros(1, *loaded.event_shape, device=self.device)
            batching = Batching.within(memory, model, image)
        self.smoothed = Smoothed(model, experiment.quantisation, experiment.precision, batching)
        known = None if training is None else self._on_device(training)
        self.neighbours, self.basis, self.sizes = known or (None, None, ())
        self.event_shape = loaded.event_shape
        self.universal = None if universal is None else self._shared_noise(universal)

    def _memory(self) -> float:
        """Bytes that launches may take; infinite where they are small anyway."""
        if self.execution.memory is not None:
            return self.execution.memory * 2**30
        if self.device.type == "cpu":
            return math.inf
        free, total = torch.cuda.mem_get_info(self.device)
        return 0.8 * min(free, total * min(1.0, self.execution.gpus_per_actor or 1.0))

    def _on_device(self, training: Training) -> tuple[Neighbours, Tensor | None, tuple[int, ...]]:
        """Training set and subspace on the device; on a CPU they share the memory they came in."""
        there = [part for part in training[:3] if part is not None]
        with warnings.catch_warnings():
            # Ray hands out read-only arrays; nothing here writes to them.
            warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
            images, labels, *basis = (torch.from_numpy(part).to(self.device) for part in there)
        return Neighbours(images, labels), basis[0] if basis else None, training.sizes

    def _shared_noise(self, packed: Packed) -> Noise:
        """The noise of all images, on the device."""
        noise = unpack([packed], self.event_shape)
        return replace(noise, scale=noise.scale.to(self.device))

    def do(self, shard: Shard, resort: bool = False) -> Done | Packed:
        """What a shard asks for: its rows and scales, or the noise of all images."""
        return self.certify(shard, resort) if shard.indices else self.prepare()

    def prepare(self) -> Packed:
        """Fits the noise that all images share.

        Raises:
            MethodError: If it could not be fitted; another try would draw the same samples.
        """
        method, streams = self.experiment.universal, Streams.of(self.experiment.seed, [0])
        assert method is not None
        try:
            packed = pack(method.prepare(self.smoothed.model, self._context(streams)))[0]
            self.universal = self._shared_noise(packed)
        except (ValueError, RuntimeError) as error:
            raise MethodError(f"{method.name} found no noise for all images: {error}") from error
        return packed

    def certify(self, shard: Shard, resort: bool = False) -> Done:
        """Rows and scales of a shard; as last resort of the noise of RS in place of every fit.

        Raises:
            MethodError: If a method is not made as methods must be.
        """
        images = torch.from_numpy(shard.images.copy()).to(self.device)
        streams = Streams.of(self.experiment.seed, shard.indices)
        done, ball, start = Done([], {}), None, self._clock()
        for method, fit in self._fallbacks(images) if resort else self._fits(images, streams):
            fitted = self._clock()
            if method in self.experiment.methods:
                packed = _packed(method, fit)
                found = certify(self.smoothed, images, fit, self.experiment.budget, streams)
                seconds = (fitted - start, self._clock() - fitted)
                fit_seconds, certify_seconds = (one / len(images) for one in seconds)
                if method.name == DDRS.name:
                    ball = found.region.l2_radius
                others = self.neighbours and self.neighbours.inside(found.region)
                seen = self._sight(found.region, streams)
                times = fit_seconds, certify_seconds
                held = self._held(found.region)
                computed = Computed(fit, found, others, *seen, ball, *times, packed, *held)
                shared = _shared(self.experiment, shard, method)
                done.rows.extend(rows_of(shard.indices, shared, computed))
                if self.execution.save_scales:
                    named = [(method.name, index) for index in shard.indices]
                    done.scales.update(zip(named, packed, strict=True))
            start = self._clock()
        return done

    def _sight(
        self, region: Region, streams: Streams
    ) -> tuple[tuple[Integers, Integers] | None, Sequence[Floats] | None]:
        """Blind samples and data radii of certified regions; None where they are not measured."""
        samples, known = self.experiment.sight_samples, self.neighbours
        if known is None or self.basis is None or not samples:
            return None, None
        noise, classes = region.noise, region.prediction
        blind = blind_samples(self.smoothed, noise, classes, known, samples, streams)
        return blind, region.data_radii(self.basis, self.sizes)

    def _held(self, region: Region) -> tuple[Floats | None, Floats | None]:
        """How far regions hold changed images, and what is named; None where nothing is."""
        aim = next((one for one in self.experiment.methods if isinstance(one, Aim)), None)
        if aim is None:
            return None, None
        noise = replace(region.noise, scale=region.noise.scale.cpu())
        held = inside(noise, region.radius, region.centre.cpu())
        return held, aim.multiple(held)

    def _clock(self) -> float:
        """Seconds, the device's work until now included."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    def _fits(self, images: Tensor, streams: Streams) -> Iterator[tuple[Method, Fit]]:
        """All methods that are to be fitted, with their fits."""
        experiment, context = self.experiment, self._context(streams)
        model, seconds = self.smoothed.model, experiment.fit_seconds or math.inf
        return fit_all(
            experiment.methods, model, images, context, start=experiment.start, seconds=seconds
        )

    def _context(self, streams: Streams) -> Context:
        """What fits need."""
        return Context(
            self.experiment.sigma,
            streams,
            neighbours=self.neighbours,
            batching=self.smoothed.batching,
            universal=self.universal,
            n=self.experiment.budget.n,
            alpha=self.experiment.budget.level,
        )

    def _fallbacks(self, images: Tensor) -> Iterator[tuple[Method, Fit]]:
        """The methods of the run, each with the noise of RS, or with one that needs no fit."""
        rs = Fit.of(IsotropicNoise.constant(self.experiment.sigma, images), Status.FALLBACK)
        for method in self.experiment.fitted:
            shared = method.universal and self.universal
            yield method, Fit.of(shared.repeated(len(images))) if shared else rs


def _packed(method: Method, fit: Fit) -> list[Packed]:
    """The scales of a fit; no retry would make them such as can be stored."""
    try:
        return pack(fit.noise)
    except ValueError as error:
        raise MethodError(f"method {method.name}: {error}") from error


def _shared(
    experiment: Experiment, shard: Shard, method: Method, error: str | None = None
) -> dict[str, Any]:
    """The cells that all rows of a shard and a method have in common."""
    budget = experiment.budget
    return {
        **{"shard": shard.number, "method": method.name, "sigma": experiment.sigma},
        **{"n": budget.n, "n0": budget.n0, "alpha": budget.alpha, "seed": experiment.seed},
        "error": error,
    }


def given_up(experiment: Experiment, shard: Shard, error: str) -> Done:
    """What is kept of images for which nothing could be computed: abstentions, and why.

    They keep such images in the denominator of every curve.
    """
    shared = [_shared(experiment, shard, method, error) for method in experiment.methods]
    return Done([row for own in shared for row in rows_of(shard.indices, own, None)], {})
