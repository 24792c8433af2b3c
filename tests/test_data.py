"""Image sets: what a reader must give, and one clear line for everything it must refuse."""

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

from rddrs_dist.data import ImageSet, load, parse_indices


def image_set(images: np.ndarray, labels: np.ndarray, classes: int = 10) -> ImageSet:
    return ImageSet("toy", "test", images, labels, classes)


def encoded(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


def write_hub(folder: Path, name: str, blobs: list, labels: list, image="img", label="label"):
    folder.mkdir(exist_ok=True)
    cells = pa.array(
        [{"bytes": blob, "path": None} for blob in blobs],
        type=pa.struct([("bytes", pa.binary()), ("path", pa.string())]),
    )
    parquet.write_table(pa.table({image: cells, label: labels}), folder / name)


def test_digits_are_whole_balanced_and_disjoint():
    train, test = load("digits", "train"), load("digits")
    assert (len(train), len(test)) == (1540, 257)
    assert train.event_shape == test.event_shape == (1, 8, 8)
    assert np.bincount(test.labels, minlength=10).min() >= 22
    assert test.images.min() == 0 and test.images.max() == 1
    first, second = ({image.tobytes() for image in each.images} for each in (train, test))
    assert not first & second


def test_hash_follows_pixels_labels_and_shape():
    images, labels = np.zeros((2, 1, 2, 2), np.float32), np.array([0, 1])
    reference = image_set(images, labels).sha256
    assert image_set(images.copy(), labels.copy()).sha256 == reference
    changed = images.copy()
    changed[1, 0, 1, 1] = 1e-7
    assert image_set(changed, labels).sha256 != reference
    assert image_set(images, labels[::-1]).sha256 != reference
    assert image_set(images.reshape(2, 1, 1, 4), labels).sha256 != reference


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (np.full((2, 1, 2, 2), 255.0), [0, 1], r"in \[0, 1\], got \[255, 255\]; divide"),
        (np.full((2, 1, 2, 2), np.nan), [0, 1], "finite"),
        (np.full((2, 1, 2, 2), -0.1), [0, 1], r"in \[0, 1\]"),
        (np.zeros((2, 2, 2)), [0, 1], r"shape \(N, C, H, W\), got float32 of shape \(2, 2, 2\)"),
        (np.zeros((0, 1, 2, 2)), [], "non-empty"),
        (np.zeros((2, 1, 2, 2)), [0], r"shape \(2,\), one per image"),
        (np.zeros((2, 1, 2, 2)), [0, 10], r"in \[0, 10\) for 10 classes, got 0 to 10"),
        (np.zeros((2, 1, 2, 2)), [-1, 0], "got -1 to 0"),
        (np.zeros((1, 1, 2, 2), np.uint8), [0], "got uint8"),
        (np.zeros((1, 1, 2, 2)), [0.0], "int64 array"),
    ],
)
def test_bad_arrays_are_refused(images, labels, message):
    images = images.astype(np.float32) if images.dtype == np.float64 else images
    with pytest.raises(ValueError, match=message):
        image_set(images, np.array(labels))


def test_unknown_names_list_the_known_ones():
    with pytest.raises(ValueError, match="'imagenet': wanted one of digits, mnist, cifar10"):
        load("imagenet")
    with pytest.raises(ValueError, match="unknown split 'valid' of digits"):
        load("digits", "valid")


@pytest.mark.parametrize("name", ["mnist", "cifar10"])
def test_absent_data_names_both_ways_out(name, tmp_path, monkeypatch):
    monkeypatch.setenv("RDDRS_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(FileNotFoundError, match=r"nowhere.*or RDDRS_DATA.*--download") as caught:
        load(name)
    assert "\n" not in str(caught.value)


def test_mnist_is_in_the_original_order_and_called_damaged_where_cut(shared, tmp_path):
    test = load("mnist", data_root=shared / "data")
    assert test.images.shape == (10_000, 1, 28, 28)
    assert test.labels[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    assert test.images.max() == 1 and test.images.dtype == np.float32
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for source in (shared / "data" / "MNIST" / "raw").iterdir():
        (raw / source.name).write_bytes(source.read_bytes()[:1000])
    with pytest.raises(ValueError, match="is damaged"):
        load("mnist", data_root=tmp_path)


def test_parquet_pixels_survive_to_the_bit(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (3, 5, 4, 3), dtype=np.uint8)
    write_hub(tmp_path, "test-00000-of-00001.parquet", [encoded(p) for p in pixels], [0, 2, 1])
    write_hub(tmp_path, "train-00000-of-00001.parquet", [encoded(pixels[0])], [6])
    test = load("parquet", data_root=tmp_path)
    assert test.event_shape == (3, 5, 4)
    assert test.labels.tolist() == [0, 2, 1]
    assert test.classes == 7  # that of the training split
    np.testing.assert_array_equal(test.images * 255, pixels.transpose(0, 3, 1, 2))


def test_parquet_shards_keep_their_order_under_other_names(tmp_path):
    grey = [np.full((4, 4), value, np.uint8) for value in (0, 51, 102)]
    for shard, part in enumerate((grey[:2], grey[2:])):
        name = f"test-{shard:05d}-of-00002.parquet"
        blobs = [encoded(p) for p in part]
        write_hub(tmp_path / "data", name, blobs, [1] * len(part), "image", "fine_label")
    test = load("parquet", data_root=tmp_path)
    assert test.event_shape == (1, 4, 4)
    np.testing.assert_allclose(test.images[:, 0, 0, 0], [0, 0.2, 0.4])


def test_grey_images_among_coloured_ones_become_rgb(tmp_path):
    blobs = [encoded(np.full((4, 4), 9, np.uint8)), encoded(np.zeros((4, 4, 3), np.uint8))]
    write_hub(tmp_path, "test-0.parquet", blobs, [0, 1])
    test = load("parquet", data_root=tmp_path)
    assert test.event_shape == (3, 4, 4)
    assert (test.images[0] == np.float32(9) / np.float32(255)).all()


@pytest.mark.parametrize(
    ("blobs", "labels", "message"),
    [
        ([np.zeros((4, 4), np.uint8), np.zeros((4, 5), np.uint8)], [0, 1], "one size.*resize"),
        ([b"not an image"], [0], "row 0 cannot be decoded"),
        ([None], [0], "row 0: wanted the bytes of an encoded image, got NoneType"),
        ([np.zeros((4, 4), np.uint16)], [0], "8-bit grey or RGB image, got mode I;16"),
        ([np.zeros((4, 4), np.uint8)], ["cat"], "must be integers, got 'cat'"),
        ([np.zeros((4, 4), np.uint8)], [-3], "got -3 to -3"),
    ],
)
def test_bad_parquet_content_is_refused(blobs, labels, message, tmp_path):
    blobs = [encoded(blob) if isinstance(blob, np.ndarray) else blob for blob in blobs]
    write_hub(tmp_path, "test-0.parquet", blobs, labels)
    with pytest.raises(ValueError, match=message):
        load("parquet", data_root=tmp_path)


def test_bad_parquet_folders_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no test-\*\.parquet under"):
        load("parquet", data_root=tmp_path)
    blob = encoded(np.zeros((4, 4), np.uint8))
    write_hub(tmp_path, "test-00000-of-00002.parquet", [blob], [0])
    with pytest.raises(FileNotFoundError, match=r"holds 1 test files .* announces 2"):
        load("parquet", data_root=tmp_path)
    (tmp_path / "test-00001-of-00002.parquet").write_bytes(b"PAR1")
    with pytest.raises(ValueError, match=r"test-00001-of-00002\.parquet cannot be read"):
        load("parquet", data_root=tmp_path)
    write_hub(tmp_path, "test-00001-of-00002.parquet", [blob], [0], image="pic")
    with pytest.raises(ValueError, match="no column named image or img, only pic, label"):
        load("parquet", data_root=tmp_path)


def test_cifar_in_the_hub_layout(shared):
    test = load("parquet", data_root=shared / "data" / "cifar10-jpeg")
    assert test.images.shape == (10_000, 3, 32, 32)
    assert np.bincount(test.labels).tolist() == [1000] * 10


def test_indices_are_numbers_and_slices():
    assert parse_indices("0:100:25", 100) == (0, 25, 50, 75)
    assert parse_indices("7", 100) == (7,)
    assert parse_indices("9, 5 ,0", 100) == (9, 5, 0)
    assert parse_indices("3,10:12,99:100", 100) == (3, 10, 11, 99)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1,", "cannot read ''"),
        ("0:10:-1", "none of them negative"),
        ("a:b", "cannot read 'a:b'"),
        ("5:5", "choose no image"),
        ("0:10:0", "choose no image"),
        ("100", "the last position is 99"),
        ("0:101", "no stop may exceed 100"),
        ("0:10,9", "choose image 9 more than once"),
    ],
)
def test_bad_indices_are_refused(text, message):
    with pytest.raises(ValueError, match=message):
        parse_indices(text, 100)
