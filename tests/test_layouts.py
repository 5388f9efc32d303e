"""Which files and arrays are taken for a data set, by the names that people give them."""

from pathlib import Path

import numpy as np
import pytest

from npaae import data, layouts
from npaae.errors import InvalidInput

from .idx_files import idx
from .layouts import LAYOUTS, assert_holds, idx_layout, kmnist, medmnist, npz_layout, some_images

ONE_IMAGE = np.zeros((1, 3, 3), np.uint8)


@pytest.mark.parametrize(
    "names",
    [
        ("XTrain", "YTrain", "XTest", "YTest"),
        ("xtrain", "ytrain", "xtest", "ytest"),
        ("X-train", "Y-train", "X-test", "Y-test"),
        ("trainImages", "trainLabels", "testImages", "testLabels"),
        ("TRAIN_X", "TRAIN_Y", "TEST_X", "TEST_Y"),
        ("training.data", "training.targets", "testing.data", "testing.targets"),
        ("x", "y", "test_x", "test_y"),
        ("images", "labels", "dev_images", "dev_labels"),
        ("train", "image_labels", "test", "test_label"),
    ],
)
def test_case_and_separators_in_a_name_do_not_matter(tmp_path, names):
    assert_holds(data.load(npz_layout(*names)(tmp_path, some_images())), some_images())


PATHS = {  # to the images, if {} is train or test; labels have another word for images
    "archives": "{}.npz/images",
    "archives that say it twice": "{}.npz/{}_images",
    "archives with a name": "mine-{}.npz/images",
    "archives with all names": "images.npz/{}",
    "archives in folders": "{}/mine.npz/images",
    "files in folders": "{}/images.npy",
    "files in folders of their kind": "images/{}.npy",
    "files that say it twice": "{}/{}-images-idx3-ubyte",
    "files in folders with a name": "mine_{}/images.idx3-ubyte",
    "folders in a folder": "data/{}/images.npy",
    "folders in folders": "{}/raw/images-idx3-ubyte",
}


def write_at(root, path, array):
    """Write an array into an IDX or .npy file, or into an archive, whose name ends with .npz."""
    *folders, last = path.split("/")
    archive = folders.pop() if folders and folders[-1].endswith(".npz") else None
    root.joinpath(*folders).mkdir(parents=True, exist_ok=True)
    file = root.joinpath(*folders, archive or last)
    if archive:
        before = dict(np.load(file)) if file.exists() else {}
        np.savez(file, **before, **{last: array})
    elif last.endswith(".npy"):
        np.save(file, array)
    else:
        file.write_bytes(idx(array))


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
def test_what_the_name_of_an_array_leaves_open_the_names_around_it_say(tmp_path, path):
    images = some_images()
    for i, array in enumerate(images):
        kind = path.replace("images", "labels") if i % 2 else path
        write_at(tmp_path / "set", kind.replace("{}", "train" if i < 2 else "test"), array)
    assert_holds(data.load(tmp_path / "set"), images)


def test_the_name_of_an_archive_that_holds_a_whole_set_does_not_matter(tmp_path):
    for name, arrays in {"test": some_images()._asdict(), "trial": {"x": ONE_IMAGE}}.items():
        np.savez(tmp_path / f"{name}.npz", **arrays)
    assert_holds(data.load(tmp_path / "test.npz"), some_images())


def test_the_name_of_an_archive_without_its_counterpart_does_not_matter(tmp_path):
    np.savez(tmp_path / "test.npz", images=some_images().train_images)
    assert len(data.load(tmp_path / "test.npz").train_images) == 10


@pytest.mark.parametrize("paths", [("x_train.npy", "test/x.npy"), ("train/x.npy", "test.npz/x")])
def test_a_part_may_have_a_folder_and_the_other_none(tmp_path, paths):
    images = some_images()
    for path, array in zip(paths, (images.train_images, images.test_images), strict=True):
        write_at(tmp_path, path, array)
    assert_holds(data.load(tmp_path), images._replace(train_labels=None, test_labels=None))


def test_names_above_the_path_do_not_count(tmp_path):
    for name in ("train", "test"):
        (tmp_path / name).mkdir()
        np.savez(tmp_path / name / "mine.npz", images=some_images().train_images)
    for path in (tmp_path / "test", tmp_path / "test" / "mine.npz"):
        assert "held out" in data.load(path).source


@pytest.mark.parametrize("ending", ["-idx3-ubyte", ".idx3-ubyte", ".idx3", ".idx", ".ubyte"])
def test_an_idx_file_has_one_of_several_endings(tmp_path, ending):
    (tmp_path / f"train-images{ending}").write_bytes(idx(some_images().train_images))
    assert len(data.load(tmp_path).train_images) == 10


COPIES = {
    "gzipped": idx_layout("train-", "t10k-", pack=True),
    "Kaggle's folders": idx_layout("train-", "t10k-", nested=True),
}


@pytest.mark.parametrize("write", COPIES.values(), ids=COPIES)
def test_a_file_that_is_there_in_two_guises_is_one_file(tmp_path, write):
    write(tmp_path, some_images())
    idx_layout("train.", "t10k.")(tmp_path, some_images())
    assert_holds(data.load(tmp_path), some_images())
    for file in (path for path in tmp_path.rglob("*") if path.is_file()):
        assert_holds(data.load(file), some_images())


def test_what_lies_beside_a_file_and_does_not_belong_to_it_need_not_be_whole(tmp_path):
    kmnist(tmp_path, some_images())
    (tmp_path / "other.npz").write_bytes(b"half a download")
    assert_holds(data.load(tmp_path / "kmnist-train-imgs.npz"), some_images())


def test_arrays_that_are_left_out_are_named(tmp_path):
    path = LAYOUTS["MedMNIST"][1](tmp_path, some_images())
    np.savez(path, **np.load(path), ids=np.arange(3), names=np.array([None]))
    assert data.load(path).source.endswith("npz, without val_images, val_labels, ids, names")


def test_what_a_name_could_do_to_a_terminal_is_escaped(tmp_path):
    folder = tmp_path / "\x9b2Jmine"
    folder.mkdir()
    np.savez(folder / "x.npz", x_train=some_images().train_images, **{"\x1b[2J\n": 1})
    for dataset in (data.load(folder), data.usable(data.load(folder)._replace(name="\x1b"), 20)):
        assert (dataset.source + dataset.name).isprintable()


def test_of_many_arrays_that_are_left_out_some_are_named(tmp_path):
    others = {f"mean_{i}": i for i in range(100)}
    np.savez(tmp_path / "mine.npz", images=some_images().train_images, **others)
    assert data.load(tmp_path).source.endswith("mean_7, 92 others")


def test_hidden_files_and_folders_are_not_read(tmp_path):
    LAYOUTS["MNIST as published"][1](tmp_path / "data", some_images())
    LAYOUTS["torchvision"][1](tmp_path / ".checkpoints", some_images())
    for file in [*(tmp_path / "data").iterdir()]:
        file.with_name(f"._{file.name}").write_bytes(b"Mac OS X")
    assert_holds(data.load(tmp_path), some_images())


def test_labels_in_the_folder_that_have_no_images_are_named(tmp_path):
    (tmp_path / "train-images-idx3-ubyte").write_bytes(idx(some_images().train_images))
    (tmp_path / "other-train-labels-idx1-ubyte").write_bytes(idx(some_images().train_labels))
    source = data.load(tmp_path).source
    assert source.endswith(", a tenth held out, without other-train-labels-idx1-ubyte")


SETS_IN_ONE_FOLDER = {
    "prefixes": [idx_layout(f"{x}-train-", f"{x}-test-") for x in ("emnist-byclass", "emnist")],
    "folders": [idx_layout("train-", "t10k-", folder=f"{x}/raw") for x in ("MNIST", "KMNIST")],
    "archives": [kmnist, medmnist],
    "folders of Kaggle": [
        idx_layout("a-train-", "a-t10k-", nested=True), idx_layout("b-train-", "b-t10k-"),
    ],
}  # fmt: skip


@pytest.mark.parametrize("layouts", SETS_IN_ONE_FOLDER.values(), ids=SETS_IN_ONE_FOLDER)
def test_of_several_sets_one_must_be_named_and_any_path_in_the_message_names_it(tmp_path, layouts):
    several = [some_images(train=n) for n in (12, 13)]
    for write, images in zip(layouts, several, strict=True):
        write(tmp_path, images)
    with pytest.raises(InvalidInput, match="got 2") as refused:
        data.load(tmp_path)
    paths = str(refused.value).split(": ")[1].split(", ")
    counts = [len(data.load(path).train_images) for path in paths]
    assert sorted(counts) == [12, 13]


def test_two_sets_in_one_archive_are_named_by_their_arrays(tmp_path):
    np.savez(tmp_path / "two.npz", images=ONE_IMAGE, mask_images=ONE_IMAGE)
    with pytest.raises(InvalidInput, match="images, mask_images"):
        data.load(tmp_path / "two.npz")


def test_two_sets_in_the_same_folders_are_named_by_their_files(tmp_path):
    for name in ("train/a", "train/b", "test/a"):
        write_at(tmp_path, f"{name}-images-idx3-ubyte", some_images().train_images)
    with pytest.raises(InvalidInput, match=r"got 2; keep one .*a-images.*b-images"):
        data.load(tmp_path)


def test_the_paths_of_thousands_of_sets_are_found_without_comparing_each_with_each():
    compared = 0

    class Name(str):
        def __eq__(self, other):
            nonlocal compared
            compared += 1
            return super().__eq__(other)

        __hash__ = str.__hash__

    paths = [(Name(f"{i}"), "x.npy") for i in range(300)]
    found = [layouts.Entry(Path(*path), None, path, 1, "", "train", "images") for path in paths]
    assert len(layouts.grouped(Path(), found)) == 300
    assert compared < 10 * 300


@pytest.mark.parametrize("names", [("кошки", "собаки"), ("का", "कि"), ("猫", "犬")])
def test_sets_named_in_any_alphabet_stay_apart(tmp_path, names):
    for n, name in enumerate(names, 12):
        idx_layout(f"{name}-train-", f"{name}-test-")(tmp_path, some_images(train=n))
    with pytest.raises(InvalidInput, match="got 2"):
        data.load(tmp_path)
    dataset = data.load(tmp_path / f"{names[0]}-train-images-idx3-ubyte")
    assert (dataset.name, len(dataset.train_images)) == (names[0], 12)


def test_a_set_in_the_folder_itself_precedes_those_further_down(tmp_path):
    LAYOUTS["torchvision"][1](tmp_path, some_images(train=13))
    LAYOUTS["MNIST as published"][1](tmp_path, some_images(train=12))
    assert len(data.load(tmp_path).train_images) == 12


@pytest.mark.parametrize("layout", ["MNIST as published", "a folder per file", "KMNIST"])
def test_a_file_stands_for_the_files_around_it(tmp_path, layout):
    LAYOUTS[layout][1](tmp_path, some_images())
    for file in (path for path in tmp_path.rglob("*") if path.is_file()):
        assert_holds(data.load(file), some_images())
