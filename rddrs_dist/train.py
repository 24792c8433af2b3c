"""Training under Gaussian noise, and accuracy with and without it.

A network that is certified under noise must have seen noise: every batch is trained on with fresh
Gaussian noise of one sigma (Cohen, Rosenfeld and Kolter, 2019, section 4), or of one scale for all
images, and where changes are named with noise along these. On a CPU, the same seed and number of
threads give the same weights.
"""

import logging
import math
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from rddrs_dist.data import ImageSet
from rddrs_dist.methods import Aim, Context, Method
from rddrs_dist.neighbours import Neighbours
from rddrs_dist.networks import build
from rddrs_dist.noise import Noise
from rddrs_dist.smoothing import Streams

logger = logging.getLogger(__name__)

# Images per forward pass outside training; noise is drawn chunk by chunk, so results depend on it.
CHUNK = 250


def train_new(
    architecture: str, train_set: ImageSet, *, seed: int = 0, **settings: Any
) -> nn.Module:
    """Return a network initialised from the seed and trained by `train`, which see.

    Args:
        architecture: One of `rddrs_dist.networks.ARCHITECTURES`.
        train_set: Images to train on; they give the event shape and the number of classes.
        seed: Seed of initial weights, order and noise.
        settings: All other arguments of `train`.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        model = build(architecture, train_set.event_shape, train_set.classes)
    train(model, train_set, seed=seed, **settings)
    return model


def train_universal(
    model: nn.Module,
    train_set: ImageSet,
    method: Method,
    *,
    rounds: int,
    sigma: float,
    seed: int = 0,
    device: str | torch.device = "cpu",
    report: Callable[[str], None] = logger.info,
    **settings: Any,
) -> Noise:
    """Fit one noise for all images to a network and train it under that noise, several times.

    The more a network has seen of a noise, the wider the next one may be at the same price.

    Args:
        model: Network that was trained under sigma; it is trained on in place.
        train_set: Images to fit to and to train on.
        method: Fits a noise for all images: `methods.URS`.
        rounds: How often, at least 1.
        sigma: Standard deviation that the fit starts from, in pixels.
        seed: Seed of the fits, and of order and noise of training.
        device: Where to fit and train.
        report: Called with one line per fit and per epoch.
        settings: All other arguments of `train`, of each round.

    Returns:
        The noise that the network was trained under last, of one image.
    """
    if rounds < 1:
        raise ValueError(f"rounds must be at least 1, got {rounds}")
    model.to(device)
    known = [torch.from_numpy(part).to(device) for part in (train_set.images, train_set.labels)]
    context = Context(sigma, Streams.of(seed, [0]), neighbours=Neighbours(*known))
    noise = None
    for number in range(1, rounds + 1):
        noise = method.prepare(model.requires_grad_(False), context)
        report(
            f"round {number}/{rounds}  axes {float(noise.min_axis):.3f} to "
            f"{float(noise.max_axis):.3f}, mean {float(noise.mean_axis):.3f}"
        )
        own = {"seed": seed + number, "report": report, "device": device, **settings}
        train(model, train_set, sigma=noise, **own)
    assert noise is not None
    return noise


def train(
    model: nn.Module,
    train_set: ImageSet,
    *,
    sigma: float | Noise,
    epochs: int = 10,
    batch_size: int = 100,
    learning_rate: float = 1e-3,
    seed: int = 0,
    device: str | torch.device = "cpu",
    aim: Aim | None = None,
    report: Callable[[str], None] = logger.info,
) -> None:
    """Train a network in place with Adam on the cross-entropy of its logits under fresh noise.

    Args:
        model: Network to train; it is left on the device, in evaluation mode.
        train_set: Images to train on.
        sigma: Standard deviation of the noise, in pixels; 0 for none; or a noise of one image.
        epochs: Passes over the images.
        batch_size: Images per step.
        learning_rate: Step size of Adam at the start; it falls to 0 along half a cosine.
        seed: Seed of order and noise.
        device: Where to train.
        aim: Names changes of images; noise along a random multiple of them is added too.
        report: Called with one line per epoch: loss, images per second, time left.

    Raises:
        ValueError: Where a setting is out of range, the device cannot be used here, or the loss
            stops being finite.
    """
    _check_sigma(sigma)
    for name, value in (("epochs", epochs), ("batch_size", batch_size)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    if not 0 < learning_rate < math.inf:
        raise ValueError(f"learning_rate must be positive and finite, got {learning_rate}")
    try:
        generator = torch.Generator(device).manual_seed(seed)
    except RuntimeError as error:
        reason = str(error).splitlines()[0][:160]
        raise ValueError(
            f"device {str(device)!r} cannot be used on this machine ({reason}): wanted cpu or "
            "another device that torch finds"
        ) from error
    images = torch.from_numpy(train_set.images).to(device)
    labels = torch.from_numpy(train_set.labels).to(device)
    model.to(device).requires_grad_(True).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate)
    steps = epochs * math.ceil(len(images) / batch_size)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps)
    start = time.monotonic()
    for epoch in range(1, epochs + 1):
        order = torch.randperm(len(images), generator=generator, device=device)
        losses = []
        for chosen in order.split(batch_size):
            noisy = _with_noise(images[chosen], sigma, generator)
            if aim is not None:
                noisy = noisy + aim.training_noise(images[chosen], generator)
            logits = model(noisy)
            loss = nn.functional.cross_entropy(logits, labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            losses.append(loss.detach())
        loss = torch.stack(losses).mean().item()
        if not math.isfinite(loss):
            raise ValueError(
                f"the training loss became {loss} in epoch {epoch}: use a smaller learning rate "
                f"than {learning_rate:g}"
            )
        seconds = max(time.monotonic() - start, 1e-9)
        minutes, rest = divmod(int(seconds / epoch * (epochs - epoch)), 60)
        report(
            f"epoch {epoch}/{epochs}  loss {loss:.4f}  {epoch * len(images) / seconds:,.0f} "
            f"images/s  ETA {minutes}:{rest:02d}"
        )
    model.eval()


def accuracy(
    model: nn.Module, test_set: ImageSet, *, sigma: float | Noise = 0.0, seed: int = 0
) -> float:
    """Return the fraction of images that a network classifies correctly.

    Args:
        model: Network to test; it is left in evaluation mode.
        test_set: Images to test on.
        sigma: Standard deviation of the noise, in pixels, drawn once per image; 0 for none; or a
            noise of one image.
        seed: Seed of the noise.

    Raises:
        ValueError: Where sigma is negative or not finite.
    """
    _check_sigma(sigma)
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    generator = torch.Generator(device).manual_seed(seed)
    images = torch.from_numpy(test_set.images).split(CHUNK)
    labels = torch.from_numpy(test_set.labels).split(CHUNK)
    model.eval()
    correct = 0
    with torch.no_grad():
        for x, y in zip(images, labels, strict=True):
            noisy = _with_noise(x.to(device), sigma, generator)
            correct += int((model(noisy).argmax(dim=1) == y.to(device)).sum())
    return correct / len(test_set)


def _with_noise(images: Tensor, sigma: float | Noise, generator: torch.Generator) -> Tensor:
    """Add Gaussian noise without clipping to [0, 1], as certification does."""
    if sigma == 0:
        return images
    noise = torch.randn(images.shape, generator=generator, device=images.device)
    if isinstance(sigma, Noise):
        return images + sigma.colour(noise.unsqueeze(0))[0]
    return images + sigma * noise


def _check_sigma(sigma: float | Noise) -> None:
    """Refuse a standard deviation that is negative or not finite."""
    if not isinstance(sigma, Noise) and not 0 <= sigma < math.inf:
        raise ValueError(f"sigma must be finite and at least 0 (0 is no noise), got {sigma}")
