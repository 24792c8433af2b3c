"""A classifier that remembers the regions of its answers, so that it is constant on each."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rddrs_dist.certify import ABSTAIN, Budget, Certificate, certify
from rddrs_dist.disjoint.memory import Entry, narrowed_to_fit
from rddrs_dist.methods import DDRS, Context, Method, fit_all
from rddrs_dist.neighbours import Neighbours
from rddrs_dist.smoothing import Streams

# Where an answer comes from.
MEMORY, CERTIFICATE = "memory", "certificate"


@dataclass(frozen=True, eq=False)
class Prediction:
    """One answer.

    Attributes:
        prediction: The class, or ABSTAIN.
        source: MEMORY where the image lies in a remembered region, else CERTIFICATE.
        query: Number of the query, which names its random streams.
        entry: Number of the region that answered or was remembered; None where there is none.
        radius: The answer is the same from now on at every x' with ||S^-1 (x' - x_i)|| < radius,
            x_i and S those of the entry; 0 where there is none.
        certificate: Of the image itself, before its region had to leave others alone; None where
            the memory answered.
    """

    prediction: int
    source: str
    query: int
    entry: int | None
    radius: float
    certificate: Certificate | None


class SmoothedClassifier:
    """The memory-augmented classifier, for which data-dependent certificates hold.

    Inside a remembered region it answers that region's class. Elsewhere it fits a noise to the
    image, certifies, and remembers the region, made smaller where it would overlap one of another
    class: earlier regions keep what they have. Answers depend on the seed and the order of
    queries alone.

    It abstains where the certificate does: where the Clopper-Pearson bound is at most 1/2, which
    is the one-sided binomial test of the selected class's count. The two-sided test of PREDICT
    would answer more often, but such an answer has no region to be remembered.

    Example:
        >>> import torch
        >>> from rddrs_dist import RS, SmoothedClassifier
        >>> model = torch.nn.Linear(2, 2, bias=False).eval()
        >>> _ = torch.nn.init.eye_(model.weight)
        >>> classifier = SmoothedClassifier(model, RS(), sigma=0.5, seed=0, event_shape=(2,))
        >>> answer = classifier.predict(torch.tensor([2.0, 0.0]))
        >>> answer.prediction, answer.source, round(answer.radius, 1)
        (0, 'certificate', 2.8)
        >>> classifier.predict(torch.tensor([1.5, 0.1])).source
        'memory'

    References:
        Alfarra et al. 2020 (arXiv 2012.04351), section 4, for the memory.
        Cohen, Rosenfeld, Kolter 2019 (arXiv 1902.02918), section 3.2, for PREDICT and CERTIFY.
    """

    def __init__(
        self,
        model: nn.Module,
        method: Method,
        *,
        sigma: float,
        seed: int,
        event_shape: tuple[int, ...],
        budget: Budget | None = None,
        neighbours: Neighbours | None = None,
        start: DDRS | None = None,
    ) -> None:
        """An empty memory.

        Args:
            model: Maps (N, *event) to logits (N, K), in evaluation mode.
            method: Chooses the noise of each image.
            sigma: Standard deviation the network was trained with, in pixel units.
            seed: Of all random streams. Whoever knows it can choose an image for the samples that
                will certify it, so that it has to be kept from those who are not trusted.
            event_shape: Shape of one image.
            budget: Samples and confidence of a certificate; by default n = 100,000.
            neighbours: Training images that regions ought not to hold if their label is another.
            start: Fits sigma_star for the methods that start from it; by default as published.
        """
        self.model, self.method, self.neighbours = model, method, neighbours
        self.sigma, self.seed, self.event_shape = sigma, seed, tuple(event_shape)
        self.budget, self.start = budget or Budget(), start or DDRS()
        self.queries = 0
        self.memory: list[Entry] = []
        self._context(0)  # refuses a wrong sigma or seed now

    def _context(self, query: int) -> Context:
        """What a fit needs."""
        return Context(
            self.sigma,
            Streams.of(self.seed, [query]),
            neighbours=self.neighbours,
            n=self.budget.n,
            alpha=self.budget.level,
        )

    def predict(self, image: Tensor) -> Prediction:
        """Answers for one image, and remembers the answer's region.

        Args:
            image: (1, *event) or (*event) float32, finite, on the model's device.

        Raises:
            ValueError: If the image is not of this shape and type, or the network fails on it.
        """
        image = self._checked(image)
        # Counted before anything is drawn: no two fits share samples, not even after an error.
        query, self.queries = self.queries, self.queries + 1
        point = image.detach().cpu().flatten().double()
        for number, entry in enumerate(self.memory):
            if entry.contains(point):
                return Prediction(entry.prediction, MEMORY, query, number, entry.certain, None)
        return self._answer(image, query)

    def predict_many(self, images: Iterable[Tensor]) -> list[Prediction]:
        """Answers for images (N, *event), one after the other; see `predict`."""
        return [self.predict(image) for image in images]

    def _checked(self, image: Tensor) -> Tensor:
        """The image as (1, *event)."""
        wanted = f"image must be a float32 tensor of shape {self.event_shape}"
        shape = tuple(image.shape)
        if shape not in (self.event_shape, (1, *self.event_shape)):
            raise ValueError(f"{wanted}, got shape {shape}: pass one image at a time")
        if image.dtype != torch.float32:
            raise ValueError(f"{wanted}, got {image.dtype}: pass image.float()")
        if not bool(torch.isfinite(image).all()):
            raise ValueError(f"{wanted} and finite, got NaN or infinity: mend the image")
        return image.reshape(1, *self.event_shape)

    def _answer(self, image: Tensor, query: int) -> Prediction:
        """Certifies an image that no region has."""
        context = self._context(query)
        *_, (_, fit) = fit_all([self.method], self.model, image, context, start=self.start)
        certificate = certify(self.model, image, fit, self.budget, context.streams)
        region, entry = certificate.region, None
        label = int(region.prediction[0])
        if label != ABSTAIN:
            # The memory is on the CPU, in tensors that nobody else changes; a noise that is there
            # already is kept, as its axes are known by now.
            noise, centre = region.noise, region.centre.detach().cpu().clone()
            if noise.scale.device.type != "cpu":
                noise = replace(noise, scale=noise.scale.cpu())
            region = replace(region, centre=centre, noise=noise)
            entry = narrowed_to_fit(region, query, self.memory)
        if entry is None:
            return Prediction(label, CERTIFICATE, query, None, 0.0, certificate)
        self.memory.append(entry)
        number = len(self.memory) - 1
        return Prediction(label, CERTIFICATE, query, number, entry.certain, certificate)

    def save(self, folder: str | Path) -> None:
        """Writes the classifier without its network, whole or not at all.

        Args:
            folder: Made where it does not exist; an earlier state there is replaced, and regions
                that it has already are not written again.

        Raises:
            ValueError: If the method is none of `METHODS`, which alone can be loaded.
            OSError: If it could not be written; what was there is still valid.
        """
        # Imported here: pyarrow and pandas, which come with it, are not needed to classify.
        from rddrs_dist.disjoint import saved

        saved.write(Path(folder), self)

    @classmethod
    def load(
        cls, folder: str | Path, model: nn.Module, neighbours: Neighbours | None = None
    ) -> "SmoothedClassifier":
        """Reads what `save` wrote; it goes on as the saved one would have.

        Args:
            folder: Of `save`.
            model: The same network.
            neighbours: The same training images, if there were any.

        Raises:
            FileNotFoundError: If there is no classifier.
            ValueError: If it is damaged, or of another network or other images.
        """
        from rddrs_dist.disjoint import saved

        known, entries = saved.read(Path(folder), model, neighbours)
        queries: Any = known.pop("queries")
        own = cls(model, known.pop("method"), neighbours=neighbours, **known)
        own.queries, own.memory = queries, entries
        return own
