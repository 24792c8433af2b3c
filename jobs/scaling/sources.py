"""Data sets of the scaling trial and networks for them."""

from dataclasses import dataclass, replace

from rddrs_dist import checkpoints, data
from rddrs_dist.run.worker import Training
from rddrs_dist.train import accuracy, train_new

from .options import Trial

_TESTED = 1000  # test images of the accuracy that is told


@dataclass(frozen=True, eq=False)
class Source:
    """A data set and a network for it.

    Attributes:
        name: Name of the data set.
        test: Its test images.
        training: Training images and labels.
        checkpoint: Bytes of the network.
    """

    name: str
    test: data.ImageSet
    training: Training
    checkpoint: bytes

    @classmethod
    def load(cls, trial: Trial, name: str) -> "Source":
        """Reads a data set and its network, which is trained where there is none."""
        training, test = (_images(trial, name, split) for split in ("train", "test"))
        content = _checkpoint(trial, name, training, test)
        shape = checkpoints.load(content, f"checkpoint for {name}").event_shape
        if shape != test.event_shape:
            raise ValueError(
                f"the checkpoint for {name} takes images of shape {shape}, {name} has "
                f"{test.event_shape}: use a network trained on this data set"
            )
        return cls(name, test, (training.images, training.labels), content)


def _images(trial: Trial, name: str, split: str) -> data.ImageSet:
    """One split of a data set."""
    if name == "cifar10" and trial.cifar_parquet is not None:
        return data.load("parquet", split, trial.cifar_parquet)
    return data.load(name, split, trial.data_root, trial.download)


def _checkpoint(trial: Trial, name: str, training: data.ImageSet, test: data.ImageSet) -> bytes:
    """The network that is given, was trained by an earlier trial, or is trained now."""
    own = trial.out / f"{name}-{trial.sigma:g}.safetensors"
    path = getattr(trial.checkpoints, name) or own
    if not path.exists():
        _train(trial, path, training, test)
    return checkpoints.read(path)


def _train(trial: Trial, path: object, training: data.ImageSet, test: data.ImageSet) -> None:
    """Trains for speed alone: what is measured hardly depends on how good the network is."""
    some = _first(training, trial.train_images)
    architecture = "lenet" if some.event_shape[0] == 1 else "resnet20"
    print(f"training {architecture} on {len(some)} images", flush=True)
    model = train_new(
        architecture, some, sigma=trial.sigma, epochs=trial.epochs, report=lambda line: None
    )
    checkpoints.save(
        str(path),
        model,
        architecture=architecture,
        event_shape=some.event_shape,
        classes=some.classes,
        sigma=trial.sigma,
    )
    share = accuracy(model, _first(test, _TESTED), sigma=trial.sigma)
    print(f"test accuracy under noise {share:.0%}", flush=True)


def _first(images: data.ImageSet, count: int) -> data.ImageSet:
    """The first images of a set."""
    return replace(images, images=images.images[:count], labels=images.labels[:count])
