# cython: boundscheck=False, wraparound=False
"""The kernels of csrc: each function checks its views, releases the GIL, calls C and checks."""

cimport cython
from cpython.buffer cimport (
    PyBUF_C_CONTIGUOUS, PyBUF_FORMAT, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer,
)
from libc.stdint cimport UINT64_MAX, int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset


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


cdef ue_pixels pixels_of(const uint8_t[:, :, :] pixels) noexcept:
    cdef ue_pixels layout
    layout.red = &pixels[0, 0, 0]
    layout.row_stride = pixels.strides[0]
    layout.pixel_stride = pixels.strides[1]
    layout.channel_stride = pixels.strides[2]
    return layout


cdef int check(ue_status status) except -1:
    if status != UE_OK:
        raise ValueError((<bytes>ue_status_text(status)).decode())
    return 0


def version() -> tuple[int, int, int]:
    cdef uint32_t number = ue_version()
    return number >> 16, number >> 8 & 255, number & 255


def usable_cores() -> int:
    cdef size_t cores
    with nogil:
        cores = ue_usable_cores()
    return cores


def isa(str root="") -> str:
    cdef char text[UE_MACHINE_TEXT]
    ue_isa(root.encode(), text)
    return (<bytes>text).decode("utf-8", "replace")


def processor(str root="") -> str:
    cdef char text[UE_MACHINE_TEXT]
    ue_processor(root.encode(), text)
    return (<bytes>text).decode("utf-8", "replace")


def available_bytes(str root="") -> int | None:
    cdef uint64_t found = ue_available_bytes(root.encode())
    return None if found == UINT64_MAX else found


def variants() -> tuple[str, ...]:
    names = []
    while ue_variant_name(len(names)) != NULL:
        names.append((<bytes>ue_variant_name(len(names))).decode())
    return tuple(names)


def active() -> str:
    return (<bytes>ue_variant_name(0)).decode()


def measure_variant() -> str:
    return (<bytes>ue_measure_variant()).decode()


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


def normalise_variant(const float[::1] affine, out) -> str:
    cdef Py_buffer view
    cdef const char *name
    if affine.shape[0] != 12:
        raise ValueError(f"the affine map has 12 coefficients, not {affine.shape[0]}")
    PyObject_GetBuffer(out, &view, PyBUF_FORMAT | PyBUF_C_CONTIGUOUS)
    try:
        name = ue_normalise_variant(&affine[0], dtype_of(&view))
    finally:
        PyBuffer_Release(&view)
    if name == NULL:
        check(UE_BAD_AFFINE)
    return (<bytes>name).decode()


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


def content_score(const uint8_t[:, :, :] pixels not None, str variant=None) -> float:
    cdef ue_status status
    cdef double score
    cdef bytes encoded = None if variant is None else variant.encode()
    cdef const char *name = variant_or_best(encoded)
    if pixels.shape[2] != 3 or pixels.shape[0] == 0 or pixels.shape[1] == 0:
        raise ValueError(
            "pixels must be RGB [height, width, 3], and some, not "
            f"{[pixels.shape[k] for k in range(3)]}"
        )
    cdef ue_pixels layout = pixels_of(pixels)
    with nogil:
        status = ue_content_score(&layout, pixels.shape[0], pixels.shape[1], &score, name)
    check(status)
    return score


def aggregator_variants() -> tuple[str, ...]:
    names = []
    while ue_aggregator_variant(len(names)) != NULL:
        names.append((<bytes>ue_aggregator_variant(len(names))).decode())
    return tuple(names)


cdef int accept(ue_status status, const char *cause) except -1:
    if status != UE_OK:
        raise ValueError((<bytes>cause).decode(errors="replace"))
    return 0


@cython.no_gc_clear
cdef class Aggregator:
    cdef ue_aggregator *handle
    cdef object memory  # which the handle reads from
    cdef readonly size_t depth, tasks, classes, width

    def __cinit__(self, source not None, size_t threads, str variant=None):
        """`source`: a path in the file system's bytes, or a buffer that holds the file."""
        cdef bytes name = None if variant is None else variant.encode()
        cdef ue_aggregator_options options
        cdef ue_status status
        options.struct_size = sizeof(options)
        options.threads = threads
        options.variant = variant_or_best(name)
        if isinstance(source, bytes):
            status = self.open_file(source, &options)
        else:
            self.memory = memoryview(source)
            status = self.open_memory(self.memory, &options)
        accept(status, ue_aggregator_error(self.handle))
        facts = self.describe()
        self.depth, self.tasks = facts["depth"], facts["tasks"]
        self.classes, self.width = facts["classes"], facts["width"]

    cdef ue_status open_file(self, bytes source, const ue_aggregator_options *options):
        cdef const char *path = source
        with nogil:
            return ue_aggregator_open(path, options, &self.handle)

    cdef ue_status open_memory(
        self, const uint8_t[::1] data, const ue_aggregator_options *options
    ):
        cdef const void *first = &data[0] if data.shape[0] else NULL
        cdef size_t size = data.shape[0]
        with nogil:
            return ue_aggregator_from_memory(first, size, options, &self.handle)

    def __dealloc__(self):
        ue_aggregator_destroy(self.handle)

    def describe(self) -> dict[str, object]:
        cdef ue_aggregator_info info
        info.struct_size = sizeof(info)
        check(ue_aggregator_describe(self.handle, &info))
        return {
            "depth": info.depth, "tasks": info.num_tasks, "classes": info.most_classes,
            "width": info.embed_dim, "threads": info.threads,
            "variant": (<bytes>info.variant).decode(), "experts": (<bytes>info.experts).decode(),
            "stored_bytes": info.stored_bytes, "prepared_bytes": info.prepared_bytes,
        }


@cython.no_gc_clear
cdef class Bag:
    cdef ue_bag *handle
    cdef readonly Aggregator aggregator  # which outlives the bag
    cdef readonly size_t n  # tokens arranged

    def __cinit__(self, Aggregator aggregator not None, size_t capacity):
        cdef ue_status status
        self.aggregator = aggregator
        with nogil:
            status = ue_aggregator_bag(aggregator.handle, capacity, &self.handle)
        if status == UE_NO_MEMORY:
            raise MemoryError(f"a bag of {capacity} tokens")
        check(status)

    def __dealloc__(self):
        ue_aggregator_free_bag(self.handle)

    @property
    def nbytes(self) -> int:
        return ue_aggregator_bag_bytes(self.handle)

    def push(self, size_t first, const float[:, ::1] tokens not None) -> None:
        cdef ue_status status
        cdef size_t count = tokens.shape[0], stride = tokens.shape[1]
        cdef const float *values = &tokens[0, 0] if count and stride else NULL
        if count == 0:
            return
        with nogil:
            status = ue_aggregator_push(self.handle, first, values, count, stride)
        accept(status, ue_aggregator_bag_error(self.handle))

    def arrange(self, const size_t[::1] order not None) -> None:
        cdef const size_t *first = &order[0] if order.shape[0] else NULL
        self.n = 0
        accept(
            ue_aggregator_arrange(self.handle, first, order.shape[0]),
            ue_aggregator_bag_error(self.handle),
        )
        self.n = order.shape[0]

    def explain(self, float[:, ::1] attention not None) -> None:
        must_be([attention.shape[0], attention.shape[1]], [self.aggregator.tasks, self.n])
        accept(
            ue_aggregator_explain(self.handle, &attention[0, 0] if self.n else NULL),
            ue_aggregator_bag_error(self.handle),
        )

    def task_tokens(self, float[:, :, ::1] tokens not None) -> None:
        must_be(
            [tokens.shape[0], tokens.shape[1], tokens.shape[2]],
            [self.aggregator.depth, self.aggregator.tasks, self.aggregator.width],
        )
        accept(
            ue_aggregator_task_tokens(self.handle, &tokens[0, 0, 0]),
            ue_aggregator_bag_error(self.handle),
        )


def must_be(list found, list wanted) -> None:
    if found != wanted:
        raise ValueError(f"an array of shape {found}, which should be {wanted}")


cdef enum:
    MOST_BAGS = 16


def finish_bags(
    list bags not None, float[:, :, ::1] logits not None, double[::1] seconds not None
) -> None:
    cdef ue_bag *handles[MOST_BAGS]
    cdef float *outputs[MOST_BAGS]
    cdef size_t count = len(bags), b
    cdef ue_status status
    cdef Bag bag
    if not 0 < count <= MOST_BAGS or seconds.shape[0] != UE_PASSES:
        raise ValueError(f"1 to {MOST_BAGS} bags, and {UE_PASSES} passes")
    for b in range(count):
        bag = <Bag?>bags[b]
        must_be(
            [logits.shape[0], logits.shape[1], logits.shape[2]],
            [count, bag.aggregator.tasks, bag.aggregator.classes],
        )
        handles[b], outputs[b] = bag.handle, &logits[b, 0, 0]
    with nogil:
        status = ue_aggregator_finish_many(handles, count, outputs, &seconds[0])
    for b in range(count if status != UE_OK else 0):
        if ue_aggregator_bag_error(handles[b])[0]:
            raise ValueError(slide_error(b, count, ue_aggregator_bag_error(handles[b])))
    check(status)


cdef str slide_error(size_t number, size_t count, const char *cause):
    text = (<bytes>cause).decode(errors="replace")
    return text if count == 1 else f"slide {number} of {count}: {text}"


include "_intake.pxi"
include "_verdict.pxi"
include "_colour.pxi"
