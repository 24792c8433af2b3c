"""The worker: fits and certifies one shard after another with one copy of the network."""

import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rddrs_dist.certify import ABSTAIN, Budget, Certificate, Floats, certify
from rddrs_dist.checkpoints import load
from rddrs_dist.methods import DDRS, RS, Context, Fit, Method, Status
from rddrs_dist.neighbours import Neighbours, others_inside
from rddrs_dist.noise import FullNoise, Noise
from rddrs_dist.noise import Packed, pack
from rddrs_dist.run.shards import Shard
from rddrs_dist.smoothing import Streams
from rddrs_dist.smoothing.batching import Memory, limit_memory
from rddrs_dist.smoothing.precision import Precision, multiplying

Row = dict[str, Any]
# Training images (N, *event) and their labels (N,).
Training = tuple[NDArray[np.float32], NDArray[np.int64]]


@dataclass(frozen=True)
class Task:
    """What a worker does with each shard.

    Attributes:
        methods: Methods to fit, DDRS before those that start from it.
        report: Names of those whose rows are wanted.
        sigma: Standard deviation the network was trained with.
        budget: Samples and confidence.
        seed: Seed of the run.
        fit_seconds: Seconds per image and method after which a fit returns what it has.
        save_scales: Whether the scales themselves are wanted, and not only their hashes.
        levels: What pixels are rounded to before the network sees them; see `certify`.
        precision: In which the network multiplies on a GPU; see `certify`.
        memory: GiB that launches may take; by default four fifths of what is free on a GPU.
        gpus: GPUs of the worker; where several share one, a fraction of its memory.
    """

    methods: Sequence[Method]
    report: Sequence[str]
    sigma: float
    budget: Budget
    seed: int
    fit_seconds: float = float("inf")
    save_scales: bool = False
    levels: int | None = None
    precision: Precision = "float32"
    memory: float | None = None
    gpus: float = 0.0


@dataclass(frozen=True, eq=False)
class Done:
    """What a worker made of a shard.

    Attributes:
        rows: One per method and image, without label and verdict.
        scales: Scale by method and index, where they are wanted.
    """

    rows: list[Row]
    scales: dict[tuple[str, int], Packed]


@dataclass
class _Timing:
    """Seconds that a block took."""

    seconds: float = 0.0


class Worker:
    """A network on a device, ready to do shards."""

    def __init__(
        self,
        task: Task,
        checkpoint: bytes,
        training: Training | None,
        threads: int,
        cuda: bool = False,
    ) -> None:
        """Loads the network.

        Args:
            task: What to do with each shard.
            checkpoint: Bytes of the checkpoint: workers need no file.
            training: Training images and labels; None where the data set has none.
            threads: CPU threads of torch.
            cuda: Whether a GPU was assigned to this worker.
        """
        torch.set_num_threads(threads)
        if cuda and not torch.cuda.is_available():
            raise ValueError(
                "a GPU was assigned to this worker but torch finds none: install torch with CUDA "
                "or set --gpus-per-actor 0"
            )
        self.device = torch.device("cuda" if cuda else "cpu")
        self.task = task
        # Convolutions are up to twice as fast with channels last, on CPUs and GPUs alike.
        loaded = load(checkpoint)
        model = loaded.model.to(self.device)
        self.model = model.to(memory_format=torch.channels_last)
        image = torch.zeros(1, *loaded.event_shape, device=self.device)
        total = self._memory()
        limit_memory(None if total is None else Memory.of(self.model, image, total))
        self.neighbours = None if training is None else self._reference(*training)

    def _memory(self) -> float | None:
        """Bytes that launches may take; None where they are small anyway."""
        if self.task.memory is not None:
            return self.task.memory * 2**30
        if self.device.type == "cpu":
            return None
        free, total = torch.cuda.mem_get_info(self.device)
        return 0.8 * min(free, total * min(1.0, self.task.gpus or 1.0))

    def _reference(self, images: NDArray[np.float32], labels: NDArray[np.int64]) -> Neighbours:
        """The training set on the device; on a CPU it shares the memory it came in."""
        with warnings.catch_warnings():
            # Ray hands out read-only arrays; nothing here writes to them.
            warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
            tensors = [torch.from_numpy(part).to(self.device) for part in (images, labels)]
        return Neighbours(*tensors)

    def certify(self, shard: Shard, resort: bool = False) -> Done:
        """Rows and scales of a shard.

        Args:
            shard: Images.
            resort: Whether to certify the noise of RS in place of every fit.
        """
        images = torch.from_numpy(shard.images.copy()).to(self.device)
        streams = Streams.of(self.task.seed, shard.indices)
        context = Context(self.task.sigma, streams, neighbours=self.neighbours)
        done = Done([], {})
        ball = None
        for method in self.task.methods:
            with self._timed() as fitting:
                fit = self._fit(RS() if resort else method, images, context)
            if method.name == DDRS.name:
                context = replace(context, sigma_star=fit.noise)
            if method.name not in self.task.report:
                continue
            with self._timed() as certifying:
                certificate = certify(
                    self.model,
                    images,
                    fit.noise,
                    self.task.budget,
                    context.streams,
                    self.task.levels,
                    self.task.precision,
                    fit.limit,
                )
            if method.name == DDRS.name:
                ball = certificate.l2_radius
            times = {
                "fit_seconds": fitting.seconds / len(images),
                "certify_seconds": certifying.seconds / len(images),
            }
            inside = self._others_inside(images, fit.noise, certificate)
            if resort:
                fit = replace(fit, status=[Status.FALLBACK] * len(images))
            packed = pack(fit.noise)
            hashes = [one.sha256 for one in packed]
            done.rows.extend(
                self._rows(shard, method, fit, certificate, ball, inside, times, hashes)
            )
            if self.task.save_scales:
                named = [(method.name, index) for index in shard.indices]
                done.scales.update(zip(named, packed, strict=True))
        return done

    def _fit(self, method: Method, images: Tensor, context: Context) -> Fit:
        """A fit that ends in time, if its method looks at the clock."""
        deadline = time.monotonic() + self.task.fit_seconds * len(images)
        return method.fit(self.model, images, replace(context, deadline=deadline))

    def _others_inside(
        self, images: Tensor, noise: Noise, certificate: Certificate
    ) -> list[int] | None:
        """Training images with another label inside each region; None where there are none."""
        if self.neighbours is None:
            return None
        answers = zip(images, certificate.prediction, certificate.radius, strict=True)
        # One dense covariance at a time: those of a whole shard may not fit into memory. Fits and
        # certificates choose their precision; a look at training images counts on this one.
        with multiplying("float32", self.device):
            return [
                others_inside(
                    _covariance(noise[row : row + 1]),
                    image,
                    self.neighbours,
                    int(label),
                    float(radius),
                )
                for row, (image, label, radius) in enumerate(answers)
            ]

    @contextmanager
    def _timed(self) -> Iterator[_Timing]:
        """Measures the seconds of a block, the device's work included."""
        timing, start = _Timing(), time.perf_counter()
        yield timing
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        timing.seconds = time.perf_counter() - start

    def _rows(
        self,
        shard: Shard,
        method: Method,
        fit: Fit,
        certificate: Certificate,
        ball: Floats | None,
        inside: list[int] | None,
        times: dict[str, float],
        hashes: list[str],
    ) -> Iterator[Row]:
        """One row per image of the shard.

        `ball` is the DDRS l2 radius, `inside` counts training images, `times` are per image,
        `hashes` of scales.
        """
        sizes = (
            "l2_radius",
            "proxy_radius",
            "capped_proxy_radius",
            "log_volume",
            "min_axis",
            "mean_axis",
            "max_axis",
        )
        columns = {name: getattr(certificate, name) for name in ("p_lower", "radius", *sizes)}
        for i, index in enumerate(shard.indices):
            yield {
                "index": index,
                "method": method.name,
                "sigma": self.task.sigma,
                "prediction": int(certificate.prediction[i]),
                "count": int(certificate.count[i]),
                "n": int(certificate.n[i]),
                "n0": certificate.budget.n0,
                "alpha": certificate.budget.alpha,
                **{name: float(values[i]) for name, values in columns.items()},
                "radius_limit": float(fit.limit[i]) if fit.limit[i] < np.inf else None,
                "axes_beyond_domain": int(certificate.axes_beyond_domain[i]),
                "others_inside": None if inside is None else inside[i],
                "contains_ddrs_ball": None
                if ball is None
                else bool(certificate.l2_radius[i] >= ball[i]),
                "fit_status": fit.status[i].name.lower(),
                "fit_steps": int(fit.steps[i]),
                "fit_objective": float(fit.objective[i]),
                **times,
                "seed": self.task.seed,
                "shard": shard.number,
                "error": None,
                "scale_sha256": hashes[i],
            }


def _covariance(noise: Noise) -> Tensor:
    """S S^T of one image, or its diagonal where that is all there is."""
    dense = isinstance(noise, FullNoise)
    return noise.covariance()[0] if dense else noise.variances()[0]


def given_up(task: Task, shard: Shard, error: str) -> Done:
    """What is kept of images for which nothing could be computed: abstentions, and why.

    They keep such images in the denominator of every curve.
    """
    zeros = (
        "p_lower", "radius", "l2_radius", "proxy_radius", "capped_proxy_radius", "min_axis",
        "mean_axis", "max_axis", "fit_seconds", "certify_seconds",
    )  # fmt: skip
    rows = [
        {
            "index": index,
            "method": method,
            "sigma": task.sigma,
            "prediction": ABSTAIN,
            "count": 0,
            "n": task.budget.n,
            "n0": task.budget.n0,
            "alpha": task.budget.alpha,
            **dict.fromkeys(zeros, 0.0),
            "log_volume": float("-inf"),
            "radius_limit": None,
            "axes_beyond_domain": 0,
            "others_inside": 0,
            "contains_ddrs_ball": None,
            "fit_status": "failed",
            "fit_steps": 0,
            "fit_objective": float("nan"),
            "seed": task.seed,
            "shard": shard.number,
            "error": error,
            "scale_sha256": None,
        }
        for index in shard.indices
        for method in task.report
    ]
    return Done(rows, {})
