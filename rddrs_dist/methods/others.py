"""Training images of other labels, at which a fit holds the smoothed classifier to its sight."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rddrs_dist.methods.base import Context
from rddrs_dist.noise import FullNoise, Noise
from rddrs_dist.region import Floats
from rddrs_dist.sight import FITTED
from rddrs_dist.smoothing import Stage
from rddrs_dist.smoothing.curvature import Slopes, Tempering, slopes
from rddrs_dist.smoothing.sample import logits_of


@dataclass(frozen=True, eq=False)
class Others:
    """Training images whose label is not the class of an image, for B images.

    They are of the half that sight is not measured with.

    Attributes:
        images: (N, *event), all that there are.
        places: Which of them have another label, for each of the B images.
        classes: (B,) int64.
        context: Of the fit; the streams are its own.
    """

    images: Tensor
    places: Sequence[Tensor]
    classes: Tensor
    context: Context

    @classmethod
    def of(cls, classes: Tensor, context: Context) -> "Others | None":
        """Those of classes (B,); None where there are no training images of another label."""
        if context.neighbours is None:
            return None
        images, labels = context.neighbours.images[FITTED], context.neighbours.labels[FITTED]
        places = [(labels != label).nonzero()[:, 0] for label in classes.tolist()]
        return cls(images, places, classes, context) if all(map(len, places)) else None

    def around(self, stage: Stage, step: int, n: int) -> Tensor:
        """Images chosen at random with replacement, (B, n, *event)."""
        below = [len(places) for places in self.places]
        rows = torch.from_numpy(self.context.streams.integers(stage, step, below, n))
        chosen = zip(self.places, rows, strict=True)
        return torch.stack([self.images[own[row.to(own.device)]] for own, row in chosen])

    def slopes(
        self, model: nn.Module, noise: FullNoise, n: int, tempering: Tempering, step: int
    ) -> Slopes:
        """As `curvature.slopes`, of the event that the answer is not the class.

        Images are drawn in the fit stage's step after the one of the noise.
        """
        around = self.around(Stage.FIT, step + 1, max(1, n // 2))
        classes = self.classes.unsqueeze(1).expand(-1, around.shape[1])
        streams, batching = self.context.streams, self.context.batching
        seen = slopes(model, around, noise, classes, n, tempering, streams, step, batching)
        return seen._replace(p=1 - seen.p, gradients=-seen.gradients)

    @torch.no_grad()
    def blindness(self, model: nn.Module, noise: Noise, n: int, step: int) -> Floats:
        """Share of n samples that answer the class, (B,).

        Samples are of the comparison stage's step, images of the one after it. A sample that is
        not finite answers the class.
        """
        around, blind = self.around(Stage.COMPARE, step + 1, n), []
        batches = self.context.batching.batches(around[:, 0], n)
        for rows in batches.groups(len(noise)):
            total, streams = 0, self.context.streams[rows]
            for block, own in enumerate(around[rows].split(list(batches.blocks), 1)):
                z = streams.normal(Stage.COMPARE, step, block, own.shape[1], own[:, 0])
                logits = logits_of(model, own + noise[rows].colour(z))
                same = logits.argmax(-1) == self.classes[rows].unsqueeze(1)
                total += (same | ~logits.isfinite().all(-1)).sum(1)
            blind.append(total)
        return torch.cat(blind).double().cpu().numpy() / n
