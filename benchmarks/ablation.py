"""What settings of RDDRS-TR are worth, one changed at a time, on MNIST.

Prints the means over the images of l2, data and proxy radius (0 where the class is wrong), of the
blindness, of the samples of a fit and of its seconds, and how many regions are sighted.

    python benchmarks/ablation.py --checkpoint LeNet5_0.25.pth --data-root data --indices 0 2000
"""

import time

import numpy as np
import tyro
from gpu import work
from inputs import Mnist, Source

from rddrs_dist import RDDRSTR, Budget, certify
from rddrs_dist.sight import SIGHTED, blind_samples, principal_subspaces
from rddrs_dist.stats import clopper_pearson_upper

BUDGET, SAMPLES = Budget(n=10_000), 2000

VARIANTS = {
    "defaults": RDDRSTR(),
    **{f"blindness {b:g}": RDDRSTR(blindness=b) for b in (0.01, 0.02, 0.1, 0.2, 1.0)},
    **{f"floor {share:g}": RDDRSTR(floor=share) for share in (0.01, 0.5, 0.8, 1.0, 1.2)},
    "250 samples per step": RDDRSTR(samples=250),
    "1,000 samples per step": RDDRSTR(samples=1000),
    "14 steps": RDDRSTR(sighted_steps=14),
    "56 steps": RDDRSTR(sighted_steps=56),
    "temperature 0.6": RDDRSTR(sighted_temperature=0.6),
    "64 directions": RDDRSTR(sighted_rank=64),
    "ten times the damping": RDDRSTR(sighted_damping=0.01),
    "both conditions with one weight": RDDRSTR(priority=0.0),
    "steps of one length": RDDRSTR(settling=0.0),
    "growth from a probability of 0.99": RDDRSTR(growth_target=0.99),
    "no running mean (decay 0)": RDDRSTR(decay=0.0),
}


def main(source: Source) -> None:
    """Prints the table."""
    mnist = Mnist(source)
    basis, sizes = principal_subspaces(mnist.neighbours.images)
    heads = ("l2", "data", "proxy", "blind", "sighted", "samples", "seconds")
    print(f"{'':36s}" + "".join(f"{head:>9s}" for head in heads))
    for name, method in VARIANTS.items():
        found = []
        for case in mnist.cases:
            image, context = case.image, case.context
            start = time.perf_counter()
            fit = method.fit(mnist.model, image, context)
            taken = time.perf_counter() - start
            region = certify(mnist.model, image, fit, BUDGET, context.streams).region
            given = fit.noise, region.prediction, mnist.neighbours, SAMPLES, context.streams
            blind, drawn = blind_samples(mnist.model, *given)
            own = [region.l2_radius, region.data_radii(basis, sizes)[0], region.proxy_radius]
            right = region.prediction[0] == case.label
            sighted = clopper_pearson_upper(blind, drawn, BUDGET.alpha)[0] <= SIGHTED
            samples = sum(work(method, int(fit.steps[0])))
            radii = [float(one[0]) * right for one in own]
            found.append((*radii, blind[0] / SAMPLES, sighted, samples, taken))
        l2, data, proxy, blind, sighted, samples, taken = np.mean(found, axis=0)
        print(
            f"{name:36s}{l2:9.3f}{data:9.3f}{proxy:9.3f}{blind:9.4f}{sighted:9.0%}{samples:9,.0f}"
            f"{taken:9.1f}",
            flush=True,
        )


if __name__ == "__main__":
    main(tyro.cli(Source))
