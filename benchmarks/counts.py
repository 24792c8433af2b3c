"""How many samples the fits of the methods send through the network, per image."""

from typing import NamedTuple

from rddrs_dist import DDRS, RDDRS, RDDRSTR, Ancer, Method
from rddrs_dist.methods.rddrs_tr import LADDER
from rddrs_dist.methods.sizing import COARSE, FINE, first_look


class Work(NamedTuple):
    """Samples of a fit.

    Attributes:
        forward: Samples that go forward alone.
        both: Samples that go forward and backward.
    """

    forward: int
    both: int

    @property
    def passes(self) -> int:
        """Samples that went through the network, in whichever directions."""
        return self.forward + self.both

    def seconds(self, forward_rate: float, both_rate: float) -> float:
        """Time of the network alone, from its samples per second."""
        return self.forward / forward_rate + self.both / both_rate


def work(method: Method, steps: int) -> Work:
    """The work of a fit of so many steps; that of the DDRS start is not in it.

    RDDRS-TR is taken to look for one size of its region; it looks again where that falls short.
    """
    match method:
        case DDRS():
            candidates = steps // method.candidate_every
            return Work(candidates * method.compare_samples, steps * method.samples)
        case Ancer():
            rates = len(method.learning_rates)
            return Work(rates * method.compare_samples, rates * steps * method.samples)
        case RDDRS():
            lengths = len(method.step_lengths)
            compared = lengths * method.compare_samples if lengths > 1 else 0
            forward = lengths * steps * method.margin_samples + compared
            return Work(forward, lengths * steps * method.gradient_samples)
        case RDDRSTR():
            # Samples near the boundary go forward once more to be differentiated.
            few, many = first_look(method.compare_samples), method.compare_samples
            sizing = (len(COARSE) + 1) * few + (len(FINE) + 1) * many
            start = len(LADDER) * method.start_samples
            near = steps * round(method.near * method.samples)
            return Work(start + steps * method.samples + sizing, near)
        case _:
            return Work(0, 0)
