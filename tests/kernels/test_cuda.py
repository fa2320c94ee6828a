# SPDX-License-Identifier: Apache-2.0
"""What holds for every kernel on a GPU: skipped without one, real or emulated.

That the results are those of the CPU is tested in the file of each op, by `run_kernel`.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from support.binding import expect_error
from support.bits import assert_equal_bits
from support.calls import CALLS, Call
from support.device import equal_up_to_libm, on_device, require_device

DTYPES = (np.float16, ml_dtypes.bfloat16, np.float32, np.float64)


@pytest.fixture(autouse=True)
def device() -> None:
    require_device()


def make(name: str, batch: int = 3, dtype: Any = np.float32) -> Call:
    return CALLS[name][1](np.random.default_rng(len(name)), batch, dtype)


def run(native: ModuleType, name: str, inputs: Any, options: Any) -> list[Any]:
    function = getattr(native, CALLS[name][0])
    result = function(*[on_device(array) for array in inputs], **options)
    parts = result if isinstance(result, tuple) else (result,)
    return [part.numpy() for part in parts]


@pytest.mark.parametrize("name", CALLS)
def test_cuda_sanitizer(native: ModuleType, name: str) -> None:
    """Small calls, for compute-sanitizer too."""
    for dtype in (np.float32, np.float16):
        call = make(name, dtype=dtype)
        run(native, name, call.inputs, call.options)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", [n for n in CALLS if make(n).by_image])
def test_images_do_not_depend_on_the_batch(
    native: ModuleType, name: str, dtype: Any
) -> None:
    call = make(name, 5, dtype)
    whole = run(native, name, call.inputs, call.options)
    for first, last in ((0, 1), (4, 5), (1, 4)):
        some = run(native, name, call.of_images(slice(first, last)), call.options)
        for part, all_of_it in zip(some, whole, strict=True):
            assert_equal_bits(part, all_of_it[first:last], name)


@pytest.mark.parametrize("name", CALLS)
def test_the_number_of_launches_is_fixed(native: ModuleType, name: str) -> None:
    if not native.cuda_is_emulated():
        pytest.skip("launches are counted by the emulator")
    counts = set()
    for batch in (1, 2, 40):
        call = make(name, batch)
        before = native.emulator_launches()
        run(native, name, call.inputs, call.options)
        counts.add(native.emulator_launches() - before)
    assert len(counts) == 1
    assert max(counts) <= 6


@pytest.mark.parametrize("confidence", ["softmax", "sigmoid", "sigmoid_focal"])
def test_classes_that_do_not_exist_give_nan(
    native: ModuleType, confidence: str
) -> None:
    """Nobody waits for the GPU, so that no error can be raised."""
    logits, offsets, classes, targets = make("multibox_loss").inputs
    classes[1, 7] = logits.shape[2]
    options = {"confidence_loss": confidence}
    inputs = (logits, offsets, classes, targets)
    losses, _, by_logits, _ = run(native, "multibox_loss", inputs, options)
    assert np.isnan(losses[:3]).all()
    assert np.isnan(by_logits[1, 7]).all()
    by_logits[1, 7] = 0
    assert np.isfinite(by_logits).all()


def test_gradients_of_the_losses_may_be_on_the_gpu(native: ModuleType) -> None:
    inputs = make("multibox_loss").inputs
    given = np.array([0.5, 2, 3], np.float32)
    expected = run(native, "multibox_loss", inputs, {"grad_losses": tuple(given)})
    options = {"grad_losses": on_device(given)}
    for part, wanted in zip(
        run(native, "multibox_loss", inputs, options), expected, strict=True
    ):
        assert_equal_bits(part, wanted)
    options = {"grad_losses": on_device(given[:2])}
    there = [on_device(array) for array in inputs]
    message = "grad_losses must have shape [3], got [2]"
    expect_error(native.multibox_loss, *there, message=message, **options)


def test_arrays_go_there_and_back(native: ModuleType) -> None:
    for dtype in (*DTYPES, np.int32, np.bool_):
        for shape in ((), (0, 4), (3,), (2, 3, 4)):
            array = np.arange(24)[: int(np.prod(shape))].reshape(shape).astype(dtype)
            there = native.DeviceArray(array)
            assert there.shape == shape
            assert there.dtype == array.dtype.name
            assert_equal_bits(there.numpy(), array)
    strided = np.arange(24.0).reshape(4, 6)[:, ::2]
    assert_equal_bits(native.DeviceArray(strided).numpy(), strided)


class Described:
    """An array on the GPU as another library would describe it."""

    def __init__(self, array: Any, **changes: Any) -> None:
        self.array = array  # keeps the memory
        self.__cuda_array_interface__ = array.__cuda_array_interface__ | changes


def test_what_is_no_array_for_the_kernels_is_refused(native: ModuleType) -> None:
    host = np.zeros((6, 4), np.float32)
    there = native.DeviceArray(host)
    same = "all arrays must be at the same place, got one on GPU 0 and one on the CPU"
    expect_error(native.box_iou, there, host, message=same)
    iou = native.box_iou(there, there)
    wrong = "out for iou must be a writeable C-contiguous array of dtype float32 and"
    for out in (iou.numpy(), there):
        expect_error(native.box_iou, there, there, out=out, message=wrong)
    address = iou.__cuda_array_interface__["data"][0]
    inputs = make("multibox_loss").inputs
    anchors = np.zeros((61, 4), np.float32)
    there_too = [on_device(array) for array in inputs]
    expect_error(native.multibox_loss, *there_too, anchors=anchors, message=same)
    null = Described(iou, data=(0, False))
    expect_error(native.box_iou, null, null, message="is null")
    read_only = Described(iou, data=(address, True))
    expect_error(native.box_iou, there, there, out=read_only, message=wrong)
    strided = Described(there, shape=(3, 4), strides=(32, 4))
    message = "boxes_b must be C-contiguous, because it is on a GPU"
    expect_error(native.box_iou, there, strided, message=message)
    foreign = Described(there, data=(host.ctypes.data, False))
    message = "is not in the memory of a GPU"
    expect_error(native.box_iou, foreign, foreign, message=message)
    message = "stream is for arrays on a GPU"
    expect_error(native.box_iou, host, host, stream=1, message=message)
    message = "boxes_b must have dtype float32, got float64"
    other = native.DeviceArray(host.astype(np.float64))
    expect_error(native.box_iou, there, other, message=message)


def test_rows_of_one_and_contiguous_strides_are_fine(native: ModuleType) -> None:
    boxes = np.array([[0, 0, 1, 1], [0, 0, 1, 0.5]], np.float32)
    there = native.DeviceArray(boxes)
    described = Described(there, strides=(16, 4))
    one = Described(there, shape=(1, 4), strides=(1024, 4))
    result = native.box_iou(one, described)
    assert result.numpy().tolist() == [[1.0, 0.5]]


@pytest.mark.parametrize("library", ["torch", "cupy"])
@pytest.mark.parametrize("name", CALLS)
def test_arrays_of_other_libraries(native: ModuleType, name: str, library: str) -> None:
    if native.cuda_is_emulated():
        pytest.skip("other libraries know no emulated GPU")
    module = pytest.importorskip(library)
    if library == "torch" and not module.cuda.is_available():
        pytest.skip("torch sees no GPU")
    call = make(name)
    function = getattr(native, CALLS[name][0])
    if library == "torch":
        inputs = [module.from_numpy(array).cuda() for array in call.inputs]
        stream = module.cuda.current_stream().cuda_stream
    else:
        inputs = [module.asarray(array) for array in call.inputs]
        stream = module.cuda.get_current_stream().ptr
    result = function(*inputs, **call.options, stream=stream)
    expected = function(*call.inputs, **call.options)
    several = isinstance(expected, tuple)
    pairs = zip(
        result if several else (result,),
        expected if several else (expected,),
        strict=True,
    )
    for theirs, wanted in pairs:
        if np.asarray(wanted).dtype.kind == "f" and not call.by_image:
            np.testing.assert_allclose(theirs.numpy(), wanted, rtol=1e-5, atol=1e-6)
        else:
            equal_up_to_libm(theirs.numpy(), wanted, name)


@pytest.mark.parametrize("name", CALLS)
def test_calls_are_captured_in_a_graph(native: ModuleType, name: str) -> None:
    """No launcher waits, allocates memory of its own or copies from the host."""
    torch = pytest.importorskip("torch")
    if native.cuda_is_emulated() or not torch.cuda.is_available():
        pytest.skip("graphs need a GPU")
    call = make(name)
    options = dict(call.options)
    if name == "multibox_loss":
        # From host memory they would have to be copied.
        options["grad_losses"] = on_device(np.array([1, 0, 0], np.float32))
    function = getattr(native, CALLS[name][0])
    inputs = [torch.from_numpy(array).cuda() for array in call.inputs]
    stream = torch.cuda.Stream()
    first = function(*inputs, **options)
    expected = first if isinstance(first, tuple) else (first,)
    expected = [part.numpy() for part in expected]
    graph = torch.cuda.CUDAGraph()
    torch.cuda.synchronize()
    with torch.cuda.graph(graph, stream=stream):
        address = torch.cuda.current_stream().cuda_stream
        function(*inputs, **options, out=first, stream=address)
    graph.replay()
    torch.cuda.synchronize()
    again = first if isinstance(first, tuple) else (first,)
    for part, wanted in zip(again, expected, strict=True):
        assert_equal_bits(part.numpy(), wanted, name)
