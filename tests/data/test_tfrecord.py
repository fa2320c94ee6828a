# SPDX-License-Identifier: Apache-2.0
"""Record files of the Object Detection API: what is read, what is refused."""

from __future__ import annotations

import struct

import numpy as np
import pytest
import tensorflow as tf
from support.data import data_path
from support.datasets import (
    HEIGHT,
    NAMES,
    WIDTH,
    assert_same,
    make_dataset,
    make_image,
    make_record,
)

from ssdops.data import (
    Dataset,
    DroppedObjectsWarning,
    EncodedImage,
    evaluation_batches,
    read_dataset,
    read_label_map,
    read_tfrecord,
    read_voc,
    write_coco,
    write_tfrecord,
    write_voc,
)
from ssdops.image_io import ImageError

LABEL_MAP = """
# a comment with { and "quotes"
item {
  id: 3
  name: "/m/01" display_name: 'cat'
  keypoints { id: 7 label: "nose" }
}
item: { name: "sl\\303\\266t\\"h {", id: 1 }
"""


def feature(value):
    if isinstance(value[0], bytes):
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=value))
    if isinstance(value[0], float):
        return tf.train.Feature(float_list=tf.train.FloatList(value=value))
    return tf.train.Feature(int64_list=tf.train.Int64List(value=value))


def example(image: bytes, **changes):
    """A record with one box; None leaves a feature out."""
    values = {
        "image/encoded": [image],
        "image/height": [HEIGHT],
        "image/width": [WIDTH],
        "image/source_id": [b"picture"],
        "image/object/bbox/ymin": [0.0],
        "image/object/bbox/xmin": [0.25],
        "image/object/bbox/ymax": [0.5],
        "image/object/bbox/xmax": [1.0],
        "image/object/class/text": [b"cat"],
        "image/object/class/label": [3],
    }
    values.update({f"image/{key}": value for key, value in changes.items()})
    kept = {key: feature(value) for key, value in values.items() if value}
    return tf.train.Example(
        features=tf.train.Features(feature=kept)
    ).SerializeToString()


def make_file(path, *records):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in records:
            writer.write(record)
    return path


@pytest.fixture
def image(tmp_path):
    return make_image(tmp_path / "images/a.png").read_bytes()


@pytest.mark.parametrize("shards", [1, 2, 3])
def test_what_is_written_is_read_back(tmp_path, shards):
    data = make_dataset()
    write_tfrecord(tmp_path / "a.tfrecord", data, shards)
    assert len(list(tmp_path.iterdir())) == shards
    again = read_tfrecord(tmp_path / "a.tfrecord", NAMES)
    assert_same(again, data)
    for one, other in zip(again.records, data.records, strict=True):
        assert isinstance(one.image, EncodedImage)
        np.testing.assert_array_equal(one.load_image(), other.image)
    write_tfrecord(tmp_path / "b.tfrecord", again)
    assert_same(read_tfrecord(tmp_path / "b.tfrecord", NAMES), data)


def test_the_layout_is_that_of_the_object_detection_api(tmp_path):
    file = make_image(tmp_path / "a.jpg")
    record = make_record("a", 2, file, crowd=np.array([True, False]))
    write_tfrecord(tmp_path / "a.record", Dataset([record], NAMES))
    [data] = tf.data.TFRecordDataset(str(tmp_path / "a.record")).as_numpy_iterator()
    found = tf.train.Example.FromString(data).features.feature
    assert found["image/encoded"].bytes_list.value == [file.read_bytes()]
    assert found["image/format"].bytes_list.value == [b"jpeg"]
    assert found["image/filename"].bytes_list.value == [b"a.jpg"]
    assert found["image/source_id"].bytes_list.value == [b"a"]
    assert found["image/height"].int64_list.value == [HEIGHT]
    assert found["image/width"].int64_list.value == [WIDTH]
    for i, corner in enumerate(("ymin", "xmin", "ymax", "xmax")):
        values = found[f"image/object/bbox/{corner}"].float_list.value
        assert values == record.boxes[:, i].tolist()
    texts = found["image/object/class/text"].bytes_list.value
    assert [text.decode() for text in texts] == ["cat", "Hündin 犬"]
    assert found["image/object/class/label"].int64_list.value == [1, 2]
    assert found["image/object/difficult"].int64_list.value == [0, 1]
    assert found["image/object/is_crowd"].int64_list.value == [1, 0]
    assert "image/object/area" not in found


def test_batches_and_other_formats_are_made_of_it(tmp_path):
    data = make_dataset()
    write_tfrecord(tmp_path / "a.tfrecord", data)
    again = read_tfrecord(tmp_path / "a.tfrecord", NAMES)
    batch = next(iter(evaluation_batches(again, (HEIGHT, WIDTH), 3)))
    expected = np.stack([record.image for record in data.records])
    np.testing.assert_array_equal(batch["images"], expected)
    write_voc(tmp_path / "voc", again.records, "train", NAMES)
    write_coco(tmp_path / "a.json", again, tmp_path / "images")
    for folder in ("voc/JPEGImages", "images"):
        found = sorted(path.name for path in (tmp_path / folder).iterdir())
        assert found == ["12.png", "3.png", "7.png"]


def test_only_what_must_be_there_must(tmp_path, image):
    absent = ["height", "width", "source_id", "object/class/label"]
    record = example(image, **dict.fromkeys(absent), filename=[b"x.png"])
    empty = tf.train.Example(
        features=tf.train.Features(feature={"image/encoded": feature([image])})
    )
    path = make_file(tmp_path / "a.record", record, empty.SerializeToString())
    first, second = read_tfrecord(path).records
    assert (first.image_id, second.image_id) == ("x.png", "a.record:2")
    assert first.image_size == second.image_size == (HEIGHT, WIDTH)
    assert first.boxes.tolist() == [[0, 0.25, 0.5, 1]]
    assert first.difficult.tolist() == [False]
    assert len(second.boxes) == 0


def test_unusable_boxes_are_dropped_and_counted(tmp_path, image):
    corners = {
        "object/bbox/ymin": [0.0, float("nan"), 2.0, 0.5, -1.0],
        "object/bbox/xmin": [0.0] * 5,
        "object/bbox/ymax": [1.0, 1.0, 3.0, 0.5, 7.0],
        "object/bbox/xmax": [1.0] * 5,
    }
    record = example(
        image,
        **corners,
        **{"object/class/text": [b"a"] * 5, "object/class/label": None},
    )
    with pytest.warns(DroppedObjectsWarning, match="3 objects"):
        data = read_tfrecord(make_file(tmp_path / "a.record", record))
    assert data.records[0].boxes.tolist() == [[0, 0, 1, 1], [0, 0, 1, 1]]
    assert sorted(data.dropped.values()) == [1, 1, 1]


def test_names_of_labels(tmp_path, image):
    path = make_file(
        tmp_path / "a.record", example(image, **{"object/class/text": None})
    )
    with pytest.raises(ValueError, match=r"record 1: .*0 \.pbtxt files.*label_map"):
        read_tfrecord(path)
    for names in (["a", "b", "c"], ["background", "a", "b", "c"]):
        data = read_tfrecord(path, names)
        assert data.class_names == ("background", "a", "b", "c")
        assert data.records[0].labels.tolist() == [3]
    with pytest.raises(ValueError, match=r"class/label 3 has no name.* 1 to 2"):
        read_tfrecord(path, ["a", "b"])
    (tmp_path / "map.pbtxt").write_text(LABEL_MAP, "utf-8")
    data = read_tfrecord(path)
    assert data.class_names == ("background", 'slöt"h {', "cat")
    assert data.records[0].labels.tolist() == [2]
    (tmp_path / "other.pbtxt").write_text("item { id: 3 name: 'dog' }")
    with pytest.raises(ValueError, match=r"2 \.pbtxt files"):
        read_tfrecord(path)
    data = read_tfrecord(path, label_map=tmp_path / "other.pbtxt")
    assert data.class_names == ("background", "dog")
    data = read_tfrecord(path, ["x", "dog"], label_map=tmp_path / "other.pbtxt")
    assert data.records[0].labels.tolist() == [2]


def test_a_label_map_is_read(tmp_path):
    (tmp_path / "a.pbtxt").write_text(LABEL_MAP, "utf-8")
    assert read_label_map(tmp_path / "a.pbtxt") == {1: 'slöt"h {', 3: "cat"}
    with pytest.raises(FileNotFoundError, match="nowhere"):
        read_label_map(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "no items"),
        (b"\xff", "UTF-8"),
        (b"item {", "braces"),
        (b"}" * 5, "braces"),
        (b"{" * 100_000, "line 1: there is no name before"),
        (b'item { id: 1 name: "a }', "line 1: expected text, got"),
        (b'item { name: "a" }', "item 1: id must be"),
        (b"item { id: 1 }", "item 1: there is no name"),
        (b"item { id: 0 name: 'a' }", "item 1: id must be .*'0'"),
        (b"item { id: -1 name: 'a' }", "item 1: id must be"),
        (b"item { id: " + b"9" * 5000 + b" name: 'a' }", "item 1: id must be"),
        (b"item { id: 1 name: 'a' } item { id: 1 name: 'b' }", "item 2: .*twice"),
        (b"item { id: 1 name: 'a' } item { id: 2 name: 'a' }", "item 2: .*twice"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_is_no_label_map_is_refused(tmp_path, text, message):
    (tmp_path / "a.pbtxt").write_bytes(text)
    with pytest.raises(ValueError, match=rf"a\.pbtxt: .*{message}"):
        read_label_map(tmp_path / "a.pbtxt")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"encoded": None}, "image/encoded must have one image, got 0"),
        ({"encoded": [b"a", b"b"]}, "image/encoded must have one image, got 2"),
        ({"encoded": [1]}, "image/encoded must be a bytes_list, got a int64_list"),
        ({"height": [-1]}, "height and width must be positive"),
        ({"width": [2**40]}, "height and width must be positive"),
        ({"encoded": [b"no image"], "height": None}, "not a readable image"),
        ({"source_id": [b"\xff"]}, "image/source_id is not UTF-8"),
        ({"object/class/text": [b"\xff"]}, "class/text is not UTF-8"),
        ({"object/class/text": [b"a", b"b"]}, "class/text must have one value for"),
        ({"object/class/text": [1]}, "class/text must be a bytes_list"),
        ({"object/bbox/xmax": None}, "a box must have four corners"),
        ({"object/bbox/xmax": [0.1, 0.2]}, "bbox/xmax must have one value for"),
        ({"object/bbox/ymin": [0]}, "bbox/ymin must be a float_list"),
        ({"object/difficult": [0, 1]}, "difficult must have one value for"),
        ({"object/area": [b"x"]}, "area must be a float_list or int64_list"),
    ],
)
def test_a_senseless_record_is_named(tmp_path, image, changes, message):
    path = make_file(tmp_path / "a.record", example(image), example(image, **changes))
    with pytest.raises(ValueError, match=rf"a\.record: record 2: .*{message}"):
        read_tfrecord(path)


def damage(data, first):
    """Damaged copies of a file, by name; `first` is the length of the first record."""
    second = 12 + first + 4
    huge = struct.pack("<Q", 2**62)
    flipped = bytes([data[second + 40] ^ 1])
    return {
        "no end": data[:-1],
        "no data": data[: second + 12],
        "half a header": data[: second + 5],
        "flipped bit": data[: second + 40] + flipped + data[second + 41 :],
        "shorter": data[:second] + struct.pack("<Q", 9) + data[second + 8 :],
        "huge length": data[:second] + huge + data[second + 8 :],
        "huge length and checksum": data[:second] + huge + b"\x7f\x85\xf0\x00",
        "rubbish behind": data[:second] + b"rubbish",
    }


@pytest.mark.parametrize("name", damage(bytes(200), 10))
def test_a_damaged_file_is_named_with_the_record(tmp_path, image, name):
    records = [example(image), example(image, source_id=[b"second"])]
    path = make_file(tmp_path / "a.record", *records)
    assert len(read_tfrecord(path)) == 2
    path.write_bytes(damage(path.read_bytes(), len(records[0]))[name])
    with pytest.raises(ValueError, match=r"a\.record: record 2 is (truncated|damaged)"):
        read_tfrecord(path)


@pytest.mark.parametrize("content", [b"", b"x", b"x" * 1000])
def test_other_files_are_refused(tmp_path, content):
    (tmp_path / "a.record").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.record: (there are no|record 1)"):
        read_tfrecord(tmp_path / "a.record")


def test_what_is_no_example_or_compressed_is_refused(tmp_path, image):
    path = make_file(tmp_path / "a.record", b"\xff" * 30)
    with pytest.raises(ValueError, match=r"record 1: no tf\.train\.Example"):
        read_tfrecord(path)
    with tf.io.TFRecordWriter(str(path), "GZIP") as writer:
        writer.write(example(image))
    with pytest.raises(ValueError, match=r"record 1 is .*compressed files"):
        read_tfrecord(path)


def test_an_image_that_goes_away_later_is_named(tmp_path, image):
    path = make_file(tmp_path / "a.record", example(image))
    [record] = read_tfrecord(path).records
    path.write_bytes(b"")
    with pytest.raises(ImageError, match=r"a\.record"):
        record.load_image()


def test_shards(tmp_path):
    data = make_dataset()
    write_tfrecord(tmp_path / "train.tfrecord", data, 3)
    assert_same(read_tfrecord(tmp_path / "train.tfrecord-*", NAMES), data)
    paths = sorted(tmp_path.iterdir())
    assert [r.image_id for r in read_tfrecord(paths[1:], NAMES).records] == ["3", "12"]
    with pytest.raises(ValueError, match="two images '7'"):
        read_tfrecord([paths[0], paths[0]], NAMES)
    paths[1].unlink()
    with pytest.raises(FileNotFoundError, match="-00001-of-00003: this shard is miss"):
        read_tfrecord(tmp_path / "train.tfrecord")
    with pytest.raises(FileNotFoundError, match="-00001-of-00003: this shard is miss"):
        read_dataset(tmp_path)
    for number in (0, 4):
        with pytest.raises(ValueError, match=f"from 1 to .* images, 3, got {number}"):
            write_tfrecord(tmp_path / "a.tfrecord", data, number)


def test_no_files_are_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.record"):
        read_tfrecord(tmp_path / "nowhere.record")
    with pytest.raises(FileNotFoundError, match=r"nowhere\.record"):
        read_tfrecord([tmp_path / "nowhere.record"])
    with pytest.raises(ValueError, match="at least one file"):
        read_tfrecord([])


@pytest.mark.parametrize("data_format", ["auto", "tfrecord"])
def test_files_and_folders_are_data_sets(tmp_path, image, data_format):
    def ids(place, split=None):
        found = read_dataset(place, split=split, data_format=data_format)
        return [record.image_id for record in found.records]

    for name in ("cats_train.record", "cats_val.record", "train2.record"):
        make_file(tmp_path / name, example(image, source_id=[name.encode()]))
    (tmp_path / ".partial-1-train.record").write_bytes(b"half")
    assert ids(tmp_path / "cats_val.record") == ["cats_val.record"]
    assert ids(tmp_path / "cats_*.record") == ["cats_train.record", "cats_val.record"]
    assert (
        ids(tmp_path, "train") == ids(tmp_path, "cats_train") == ["cats_train.record"]
    )
    assert ids(tmp_path, "val+train") == ["cats_val.record", "cats_train.record"]
    assert len(ids(tmp_path)) == 3
    with pytest.raises(FileNotFoundError, match=r"'test'; there are cats_train\.rec"):
        ids(tmp_path, "test")
    with pytest.raises(ValueError, match="split must be None for a file"):
        ids(tmp_path / "cats_val.record", "val")


@pytest.mark.filterwarnings("ignore::ssdops.data.DroppedObjectsWarning")
def test_a_real_data_set_is_the_same(tmp_path):
    data = read_voc(data_path("bccd/BCCD"), "val")
    write_tfrecord(tmp_path / "val.record", data, 4)
    again = read_tfrecord(tmp_path / "val.record")
    assert_same(again, data)
    record, original = again.records[-1], data.records[-1]
    assert record.image.read() == original.image.read_bytes()
    np.testing.assert_array_equal(record.load_image(), original.load_image())
