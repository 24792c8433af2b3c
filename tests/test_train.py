"""Training learns, repeats itself from its seed, and leaves the rest of the process alone."""

import numpy as np
import pytest
import torch
from torch import nn

from rddrs_dist.data import ImageSet, load
from rddrs_dist.methods import URS
from rddrs_dist.noise import FullNoise
from rddrs_dist.train import accuracy, train, train_new, train_universal


@pytest.fixture(scope="module")
def digits() -> ImageSet:
    return load("digits", "train")


@pytest.fixture(scope="module")
def few(digits) -> ImageSet:
    return ImageSet("digits", "train", digits.images[:230], digits.labels[:230], 10)


def weights(model: nn.Module) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def seen_in_training(images: ImageSet, **settings) -> list[torch.Tensor]:
    """The batches (B, d) float64 that a network is given."""
    seen: list[torch.Tensor] = []
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    model.register_forward_pre_hook(lambda _, x: seen.append(x[0].flatten(1).double()))
    train(model, images, **settings)
    return seen


def test_training_learns_the_digits_and_noise_in_training_helps_under_noise(digits):
    test = load("digits")
    clean, noisy = (
        train_new("lenet", digits, sigma=sigma, epochs=8, batch_size=20) for sigma in (0.0, 0.25)
    )
    assert accuracy(noisy, test) > 0.93 and accuracy(noisy, test, sigma=0.25) > 0.88
    assert accuracy(noisy, test, sigma=0.5) > accuracy(clean, test, sigma=0.5) + 0.03
    assert not noisy.training


def test_a_seed_gives_the_same_weights_whatever_was_drawn_before(few):
    torch.rand(3)
    first = weights(train_new("lenet", few, sigma=0.25, epochs=2, seed=4))
    torch.rand(5)
    before = torch.get_rng_state()
    assert torch.equal(weights(train_new("lenet", few, sigma=0.25, epochs=2, seed=4)), first)
    assert torch.equal(torch.get_rng_state(), before)
    other = weights(train_new("lenet", few, sigma=0.25, epochs=2, seed=5))
    assert not torch.equal(other, first)


def test_noise_is_fresh_in_every_epoch_and_batch(few):
    zeros = ImageSet("zeros", "train", np.zeros_like(few.images), few.labels, 10)
    seen = seen_in_training(zeros, sigma=0.5, epochs=2, batch_size=100)
    assert [len(batch) for batch in seen] == [100, 100, 30] * 2
    noise = torch.cat(seen)
    assert abs(noise.std().item() - 0.5) < 0.01
    assert len(torch.unique(noise[:, 0])) == len(noise)


def test_every_image_is_seen_once_per_epoch(few):
    seen = torch.cat(seen_in_training(few, sigma=0.0, epochs=1)).sum(1)
    wanted = torch.from_numpy(few.images).flatten(1).double().sum(1)
    assert torch.equal(seen.sort().values, wanted.sort().values)
    assert not torch.equal(seen, wanted)


def test_one_line_is_reported_per_epoch(few):
    lines: list[str] = []
    train_new("lenet", few, sigma=0.25, epochs=3, report=lines.append)
    assert len(lines) == 3
    assert lines[0].startswith("epoch 1/3  loss 2.")
    assert "images/s" in lines[1] and lines[2].endswith("ETA 0:00")


def test_a_frozen_network_can_be_trained_on(few):
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).requires_grad_(False)
    before = weights(model)
    train(model, few, sigma=0.0, epochs=1)
    assert not torch.equal(weights(model), before)


def test_accuracy_counts_the_right_images_and_repeats_itself_under_noise(digits):
    constant = nn.Sequential(nn.Flatten(), nn.Linear(64, 10, bias=False))
    constant[1].weight.data.zero_()
    wanted = float(np.mean(digits.labels == 0))
    assert accuracy(constant, digits) == accuracy(constant, digits, sigma=1.0) == wanted
    model = train_new("lenet", digits, sigma=0.25, epochs=1)
    first = accuracy(model, digits, sigma=0.5, seed=1)
    assert accuracy(model, digits, sigma=0.5, seed=1) == first
    assert accuracy(model, digits, sigma=0.5, seed=2) != first


QUICK = URS(samples=200, start_samples=1000, steps=5)


def test_a_network_is_trained_under_the_noise_that_was_fitted_to_it(few):
    lines: list[str] = []
    model = train_new("lenet", few, sigma=0.25, epochs=2, report=lambda line: None)
    before = weights(model)
    settings = {"rounds": 2, "sigma": 0.25, "epochs": 1, "report": lines.append}
    noise = train_universal(model, few, QUICK, **settings)
    assert not torch.equal(weights(model), before) and not model.training
    assert isinstance(noise, FullNoise) and float(noise.min_axis) >= 0.25 * (1 - 1e-5)
    assert [line.split()[0] for line in lines] == ["round", "epoch"] * 2
    again = train_new("lenet", few, sigma=0.25, epochs=2)
    assert torch.equal(train_universal(again, few, QUICK, **settings).scale, noise.scale)
    assert torch.equal(weights(again), weights(model))
    with pytest.raises(ValueError, match="rounds must be at least 1, got 0"):
        train_universal(model, few, QUICK, **{**settings, "rounds": 0})


def test_batches_get_noise_of_the_scale_they_are_trained_under(few):
    """Pixels 0 and 1 share most of their noise, the others have little."""
    scale = 0.1 * torch.eye(64)
    scale[:2, :2] = torch.tensor([[2.0, 0.0], [1.9, 0.5]])
    noise = FullNoise(scale.unsqueeze(0), few.event_shape)
    zeros = ImageSet("zeros", "train", np.zeros_like(few.images), few.labels, 10)
    seen = torch.cat(seen_in_training(zeros, sigma=noise, epochs=20, batch_size=100))
    torch.testing.assert_close(seen.T @ seen / len(seen), noise.covariance()[0], atol=0.3, rtol=0)
    model = train_new("lenet", few, sigma=noise, epochs=1)
    assert 0 < accuracy(model, few, sigma=noise) == accuracy(model, few, sigma=noise)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sigma": -0.1}, "sigma must be finite and at least 0"),
        ({"sigma": float("nan")}, "sigma must be finite"),
        ({"epochs": 0}, "epochs must be at least 1, got 0"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"learning_rate": 0.0}, "learning_rate must be positive"),
        ({"learning_rate": float("inf")}, "learning_rate must be positive and finite"),
        ({"device": "abacus"}, "device 'abacus' cannot be used on this machine"),
    ],
)
def test_bad_settings_are_refused(settings, message, few):
    with pytest.raises(ValueError, match=message):
        train_new("lenet", few, **{"sigma": 0.25, **settings})
    if settings.keys() == {"sigma"}:
        with pytest.raises(ValueError, match=message):
            accuracy(nn.Identity(), few, **settings)


def test_a_loss_that_explodes_is_reported(few):
    with pytest.raises(ValueError, match=r"loss became .* in epoch .* smaller learning rate"):
        train_new("lenet", few, sigma=0.25, epochs=30, learning_rate=1e30)
