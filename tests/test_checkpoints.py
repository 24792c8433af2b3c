"""Networks give logits; checkpoints come back exactly, or are refused in one clear line."""

import io
import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from rddrs_dist.checkpoints import build, check_logits, load, read, save
from rddrs_dist.data import ImageSet
from rddrs_dist.data import load as load_images
from rddrs_dist.networks import ARCHITECTURES
from rddrs_dist.noise import DiagonalNoise, FullNoise
from rddrs_dist.train import accuracy

SHAPE = (1, 8, 8)


@pytest.fixture
def lenet() -> nn.Module:
    return build_seeded("lenet", SHAPE)


def build_seeded(architecture: str, event_shape: tuple[int, ...]) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build(architecture, event_shape, 10).eval()


def keep(path: Path, model: nn.Module, **changes) -> Path:
    facts = {"architecture": "lenet", "event_shape": SHAPE, "classes": 10, "sigma": 0.25}
    save(path, model, **{**facts, **changes})
    return path


def torch_bytes(content: object, legacy: bool = False) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=not legacy)
    return buffer.getvalue()


def refusal(source: Path | bytes) -> str:
    with pytest.raises(ValueError) as caught:
        load(source)
    message = str(caught.value)
    assert "\n" not in message and len(message) < 600
    return message


@pytest.mark.parametrize(
    ("architecture", "event_shape"),
    [
        ("lenet", (3, 9, 13)),
        ("lenet-caffe", (3, 16, 21)),
        ("resnet20", (3, 32, 32)),
        ("resnet20", SHAPE),
    ],
)
def test_networks_give_finite_logits(architecture, event_shape):
    images = torch.rand(4, *event_shape, generator=torch.Generator().manual_seed(0))
    check_logits(build_seeded(architecture, event_shape), images)


def test_networks_have_the_published_sizes():
    shapes = {"lenet": (1, 28, 28), "lenet-caffe": (1, 28, 28), "resnet20": (3, 32, 32)}
    sizes = {
        name: sum(p.numel() for p in build(name, shape, 10).parameters())
        for name, shape in shapes.items()
    }
    # The 431,080 parameters of Caffe's LeNet.
    assert sizes["lenet-caffe"] == 20 * 26 + 50 * 501 + 500 * 801 + 10 * 501 == 431_080
    assert sizes["lenet"] == 16 * 26 + 32 * (16 * 25 + 1) + 10 * 1569
    assert sizes["resnet20"] == 269_722  # 0.27 million in the paper


def test_resnet_normalises_inside():
    model = build_seeded("resnet20", (3, 32, 32))
    seen = []
    model.get_submodule("stem").register_forward_pre_hook(lambda _, x: seen.append(x[0]))
    mean = model.get_buffer("mean")
    model(mean.expand(2, 3, 32, 32))
    assert torch.equal(seen[0], torch.zeros(2, 3, 32, 32))


@pytest.mark.parametrize(
    ("architecture", "event_shape", "classes", "message"),
    [
        ("vgg", SHAPE, 10, "architecture 'vgg': wanted one of lenet, lenet-caffe, resnet20"),
        ("lenet", (8, 8), 10, r"shape \(C, H, W\) .* got \(8, 8\)"),
        ("lenet", (1, 3, 8), 10, "at least 4 pixels"),
        ("lenet-caffe", (1, 8, 8), 10, "at least 16 pixels, got 8x8"),
        ("lenet", SHAPE, 1, "at least 2 classes, got 1"),
        ("resnet20", (3, 30, 32), 10, "divisible by 4, got 30x32"),
    ],
)
def test_impossible_networks_are_refused(architecture, event_shape, classes, message):
    with pytest.raises(ValueError, match=message):
        build(architecture, event_shape, classes)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_checkpoint_comes_back_to_the_bit(architecture, tmp_path):
    shape = (1, 16, 16)
    model = build_seeded(architecture, shape)
    facts = {"architecture": architecture, "event_shape": shape}
    path = keep(tmp_path / "new" / "net.safetensors", model, **facts)
    before = torch.get_rng_state()
    found = load(read(path))  # as workers do
    assert torch.equal(torch.get_rng_state(), before)
    assert found.sha256 == load(path).sha256
    assert (found.architecture, found.event_shape, found.classes) == (architecture, shape, 10)
    assert found.sigma == 0.25 and not found.model.training
    assert not any(parameter.requires_grad for parameter in found.model.parameters())
    for key, tensor in model.state_dict().items():
        assert torch.equal(found.model.state_dict()[key], tensor)
    assert [file.name for file in path.parent.iterdir()] == ["net.safetensors"]


def test_equal_networks_give_equal_files(lenet, tmp_path):
    written = {read(keep(tmp_path / f"{copy}.safetensors", lenet)) for copy in range(5)}
    assert len(written) == 1
    lenet.get_parameter("out.bias").data[0] += 1e-6
    assert read(keep(tmp_path / "other.safetensors", lenet)) not in written


def lower(d: int = 64) -> FullNoise:
    matrix = 0.3 * torch.eye(d) + 0.01 * torch.ones(d, d).tril(-1)
    return FullNoise(matrix.unsqueeze(0), (1, 1, d) if d != 64 else SHAPE)


@pytest.mark.parametrize(
    "noise",
    [lower(), DiagonalNoise(torch.full((1, *SHAPE), 0.4), SHAPE)],
    ids=["full", "diagonal"],
)
def test_a_checkpoint_may_hold_a_noise_for_all_images(noise, lenet, tmp_path):
    plain, path = keep(tmp_path / "plain.safetensors", lenet), tmp_path / "net.safetensors"
    found = load(keep(path, lenet, universal=noise))
    assert type(found.universal) is type(noise) and found.universal.event_shape == SHAPE
    assert torch.equal(found.universal.scale, noise.scale)
    assert found.sha256 != load(plain).sha256 and load(plain).universal is None
    for key, tensor in lenet.state_dict().items():
        assert torch.equal(found.model.state_dict()[key], tensor)
    assert set(safetensors.torch.load(read(path))) == {*lenet.state_dict(), "universal_scale"}


def test_networks_without_such_a_noise_are_written_as_before(tmp_path):
    """Their hash, and with it the identity of runs, stays what it was."""
    recorded = Path(__file__).parent / "recorded" / "digits-lenet-0.25.safetensors"
    again = keep(tmp_path / "net.safetensors", load(recorded).model)
    assert read(again) == read(recorded)


def test_a_noise_of_other_images_or_none_is_refused(lenet, tmp_path):
    path = keep(tmp_path / "net.safetensors", lenet, universal=lower(16))
    message = refusal(path)
    assert "holds no usable noise for images of shape (1, 8, 8)" in message
    assert "2080 numbers, got 136" in message and "rddrs train --universal" in message
    flat = lower().scale.clone()
    flat[0, 5] = 0
    singular = keep(path, lenet, universal=FullNoise(flat, SHAPE))
    assert "invertible" in refusal(singular)
    state = safetensors.torch.load(read(keep(path, lenet)))
    facts = {"architecture": "lenet", "classes": 10, "event_shape": SHAPE, "sigma": None}
    facts |= {"pixel_range": [0, 1], "universal": "lower"}
    content = safetensors.torch.save(state, {"rddrs_dist": json.dumps(facts)})
    assert "holds no usable noise" in refusal(content)


@pytest.mark.parametrize("legacy", [False, True])
def test_a_torch_state_dict_of_a_lenet_loads(legacy, lenet, tmp_path):
    path = tmp_path / "net.pth"
    path.write_bytes(torch_bytes(lenet.state_dict(), legacy))
    found = load(path)
    assert (found.architecture, found.event_shape, found.classes) == ("lenet", SHAPE, 10)
    assert found.sigma is None
    assert torch.equal(found.model.get_parameter("out.bias"), lenet.get_parameter("out.bias"))


def test_the_authors_networks_load_and_classify(shared):
    test = load_images("mnist", data_root=shared / "data")
    images, labels = torch.from_numpy(test.images[:500]), test.labels[:500]
    for sigma in ("0.12", "0.25", "0.5"):
        found = load(shared / "reference" / f"LeNet5_{sigma}.pth")
        assert (found.event_shape, found.classes) == ((1, 28, 28), 10)
        check_logits(found.model, images)
        assert np.mean(found.model(images).argmax(dim=1).numpy() == labels) > 0.98
    few = ImageSet("mnist", "test", test.images[:1000], test.labels[:1000], 10)
    assert accuracy(found.model, few, sigma=0.5) > 0.95


def test_missing_cut_and_foreign_files_are_refused(lenet, tmp_path):
    for path in (tmp_path / "none.safetensors", tmp_path):
        with pytest.raises(FileNotFoundError, match=r"no checkpoint file .* `rddrs train`"):
            load(path)
    whole = read(keep(tmp_path / "net.safetensors", lenet))
    archive, bare = (torch_bytes(lenet.state_dict(), legacy) for legacy in (False, True))
    for content, least in ((whole, 9), (archive, 2), (bare, 1)):
        for length in (least, 100, len(content) // 2, len(content) - 1):
            assert "is damaged" in refusal(content[:length])
    (tmp_path / "empty.pth").write_bytes(b"")
    assert str(tmp_path / "empty.pth") in refusal(tmp_path / "empty.pth")
    for content in (b"", b"hello, world", b"\0" * 100):
        assert f"neither safetensors nor a torch state dict ({len(content)}" in refusal(content)


class Trap:
    """Executes a command when a careless reader unpickles it."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return os.system, (f"touch {self.mark}",)


def test_what_is_no_state_dict_is_refused_and_not_executed(lenet, tmp_path):
    state = {**lenet.state_dict(), "out.bias": Trap(tmp_path / "executed")}
    for content in (torch_bytes(state), torch_bytes(state, legacy=True), pickle.dumps(state)):
        assert "nothing in it was executed" in refusal(content)
    assert not (tmp_path / "executed").exists()
    # Other things that torch saves.
    assert "must be a state dict" in refusal(torch_bytes(torch.ones(3)))
    wrapped = {"epoch": 3, "model": lenet.state_dict()}
    assert "got epoch, model" in refusal(torch_bytes(wrapped))


def test_wrong_architectures_name_the_differences(lenet, tmp_path):
    state = lenet.state_dict()
    renamed = {key.replace("out.", "fc."): tensor for key, tensor in state.items()}
    message = refusal(torch_bytes(renamed))
    assert "missing out.weight; missing out.bias; unexpected fc.weight and 1 more" in message
    state["conv2.0.bias"] = torch.zeros(31)
    assert "conv2.0.bias is float32 (31,), wanted float32 (32,)" in refusal(torch_bytes(state))
    with pytest.raises(ValueError, match="is not a resnet20"):
        keep(tmp_path / "net.safetensors", lenet, architecture="resnet20")
    with pytest.raises(ValueError, match=r"out.weight is float32 \(10, 128\)"):
        keep(tmp_path / "net.safetensors", lenet, event_shape=(1, 28, 28))
    assert list(tmp_path.iterdir()) == []


def test_weights_that_are_not_finite_are_named(lenet, tmp_path):
    lenet.get_parameter("conv1.0.bias").data[3] = float("nan")
    message = refusal(torch_bytes(lenet.state_dict()))
    assert "not finite in conv1.0.bias" in message
    with pytest.raises(ValueError, match=r"not finite in conv1\.0\.bias"):
        keep(tmp_path / "net.safetensors", lenet)


def test_safetensors_of_others_are_refused(lenet):
    state = lenet.state_dict()
    assert "does not say which network" in refusal(safetensors.torch.save(state))
    facts = {"architecture": "lenet", "classes": 10, "event_shape": SHAPE, "sigma": None}
    facts["pixel_range"] = [0, 1]
    for metadata, part in (
        ("{", "is damaged"),
        ("[]", "unusable metadata"),
        (json.dumps({"architecture": "lenet"}), "unusable metadata"),
        (json.dumps({**facts, "pixel_range": [0, 255]}), "wants pixels in (0, 255)"),
        (json.dumps({**facts, "architecture": "vgg"}), "unknown architecture 'vgg'"),
        (json.dumps({**facts, "event_shape": [1, 10**9, 10**10]}), "describes no network"),
    ):
        assert part in refusal(safetensors.torch.save(state, {"rddrs_dist": metadata}))


def test_sigma_may_be_unknown_but_not_unusable(lenet, tmp_path):
    assert load(keep(tmp_path / "net.safetensors", lenet, sigma=None)).sigma is None
    for sigma in (-0.25, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="wanted a finite number of at least 0"):
            keep(tmp_path / "net.safetensors", lenet, sigma=sigma)


def test_an_unwritable_place_is_one_clear_line(lenet, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "file" / "net.safetensors", tmp_path / "folder"):
        with pytest.raises(OSError, match=r"cannot write checkpoint .* name another file"):
            keep(path, lenet)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["file", "folder"]


def fixed(output: object) -> nn.Module:
    """A network of the same output whatever the images."""
    model = nn.Identity().eval()
    model.register_forward_hook(lambda *_: output)
    return model


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (torch.zeros(2), r"shape \(2, K\) with K >= 2 for 2 images, got \(2,\)"),
        (torch.zeros(2, 1), r"got \(2, 1\)"),
        (torch.zeros(3, 10), r"got \(3, 10\)"),
        (torch.zeros(2, 10, dtype=torch.int64), "floating-point tensor .*, got torch.int64"),
        ((torch.zeros(2, 10), None), "got tuple"),
        (torch.full((2, 10), float("nan")), "not finite"),
    ],
)
def test_outputs_that_are_no_logits_are_refused(output, message):
    with pytest.raises(ValueError, match=message):
        check_logits(fixed(output), torch.zeros(2, *SHAPE))


def test_probabilities_are_warned_of(lenet):
    images = torch.rand(4, *SHAPE, generator=torch.Generator().manual_seed(0))
    with pytest.warns(UserWarning, match="returns probabilities; logits are wanted"):
        check_logits(nn.Sequential(lenet, nn.Softmax(dim=1)).eval(), images)
    check_logits(fixed(torch.tensor([[0.4, 0.7], [0.5, 0.5]])), torch.zeros(2, *SHAPE))
