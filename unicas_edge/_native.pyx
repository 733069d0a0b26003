# cython: boundscheck=False, wraparound=False
"""The kernels of csrc: each function checks its views, releases the GIL, calls C and checks."""

from cpython.buffer cimport (
    PyBUF_C_CONTIGUOUS, PyBUF_FORMAT, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer,
)
from libc.stdint cimport int64_t, uint8_t, uint64_t


cdef extern from "unicas_edge.h" nogil:
    ctypedef enum ue_status:
        UE_OK

    ctypedef enum ue_dtype:
        UE_FLOAT32
        UE_FLOAT16
        UE_UINT8

    ctypedef struct ue_image:
        const uint8_t *pixels
        size_t height
        size_t width
        Py_ssize_t row_stride

    ctypedef struct ue_measures:
        uint64_t cellular
        uint64_t dark
        uint64_t channel_sum[3]
        int64_t laplacian_sum
        uint64_t laplacian_squares
        uint64_t laplacian_count

    const char *ue_status_text(ue_status status)
    const char *ue_variant_name(size_t index)
    ue_status ue_normalise(
        const ue_image *image, const float *affine, ue_dtype dtype, void *dst,
        size_t channel_stride, const char *variant,
    )
    ue_status ue_measure(
        const ue_image *image, uint8_t cellular_below, uint8_t dark_below,
        ue_measures *measures, const char *variant,
    )


cdef ue_image image_of(const uint8_t[:, :, :] pixels) except *:
    # NumPy gives a dimension of one element any stride.
    if (
        pixels.shape[2] != 3 or pixels.strides[2] != 1
        or (pixels.strides[1] != 3 and pixels.shape[1] > 1)
    ):
        raise ValueError(
            "pixels must be RGB [height, width, 3] with adjacent bytes in a row, not shape "
            f"{[pixels.shape[k] for k in range(3)]} with strides "
            f"{[pixels.strides[k] for k in range(3)]}"
        )
    if pixels.shape[0] == 0 or pixels.shape[1] == 0:
        raise ValueError(f"an image of {pixels.shape[0]} x {pixels.shape[1]} pixels is empty")
    cdef ue_image image
    image.pixels = &pixels[0, 0, 0]
    image.height = pixels.shape[0]
    image.width = pixels.shape[1]
    image.row_stride = pixels.strides[0]
    return image


cdef int check(ue_status status) except -1:
    if status != UE_OK:
        raise ValueError((<bytes>ue_status_text(status)).decode())
    return 0


def variants() -> tuple[str, ...]:
    names = []
    while ue_variant_name(len(names)) != NULL:
        names.append((<bytes>ue_variant_name(len(names))).decode())
    return tuple(names)


def active() -> str:
    return (<bytes>ue_variant_name(0)).decode()


cdef const char *variant_or_best(bytes variant) noexcept:
    return NULL if variant is None else <const char *>variant


cdef ue_dtype dtype_of(const Py_buffer *view) except *:
    if view.format != NULL:
        if view.format[0] == c"f" and view.itemsize == 4:
            return UE_FLOAT32
        if view.format[0] == c"e" and view.itemsize == 2:
            return UE_FLOAT16
        if view.format[0] == c"B" and view.itemsize == 1:
            return UE_UINT8
    raise ValueError("the output must be float32, float16 or uint8 in native byte order")


cdef int fill(
    const ue_image *image, const float *affine, const Py_buffer *out, bytes variant
) except -1:
    cdef ue_dtype dtype = dtype_of(out)
    cdef const char *name = variant_or_best(variant)
    cdef ue_status status
    if (
        out.ndim != 3 or out.shape[0] != 3
        or <size_t>out.shape[1] != image.height or <size_t>out.shape[2] != image.width
    ):
        raise ValueError(
            f"the output must be [3, {image.height}, {image.width}], "
            f"not {[out.shape[k] for k in range(out.ndim)]}"
        )
    with nogil:
        status = ue_normalise(image, affine, dtype, out.buf, image.height * image.width, name)
    return check(status)


def normalise(
    const uint8_t[:, :, :] pixels, const float[::1] affine, out, str variant=None
) -> None:
    cdef Py_buffer view
    cdef ue_image image = image_of(pixels)
    cdef bytes name = None if variant is None else variant.encode()
    if affine.shape[0] != 12:
        raise ValueError(f"the affine map has 12 coefficients, not {affine.shape[0]}")
    PyObject_GetBuffer(out, &view, PyBUF_FORMAT | PyBUF_WRITABLE | PyBUF_C_CONTIGUOUS)
    try:
        fill(&image, &affine[0], &view, name)
    finally:
        PyBuffer_Release(&view)


def measure(
    const uint8_t[:, :, :] pixels, uint8_t cellular_below, uint8_t dark_below, str variant=None
) -> tuple[int, int, int, int, int, int, int, int]:
    cdef ue_measures found
    cdef ue_status status
    cdef ue_image image = image_of(pixels)
    cdef bytes encoded = None if variant is None else variant.encode()
    cdef const char *name = variant_or_best(encoded)
    with nogil:
        status = ue_measure(&image, cellular_below, dark_below, &found, name)
    check(status)
    return (
        found.cellular, found.dark,
        found.channel_sum[0], found.channel_sum[1], found.channel_sum[2],
        found.laplacian_sum, found.laplacian_squares, found.laplacian_count,
    )
