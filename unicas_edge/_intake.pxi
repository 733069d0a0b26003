# The session of csrc/intake, included by _native.pyx: every call releases the GIL while it waits.


cdef ue_dtype dtype_named(str name) except *:
    found = {"float32": UE_FLOAT32, "float16": UE_FLOAT16, "uint8": UE_UINT8}.get(name)
    if found is None:
        raise ValueError(f"a session's dtype is float32, float16 or uint8, not {name}")
    return <ue_dtype><int>found


cdef str refused():
    """The sentence of the last refusal; a path in it may be no UTF-8, or be cut within a letter."""
    return (<bytes>ue_intake_error()).decode("utf-8", "replace")


cdef int let(ue_status status) except -1:
    """Raise what a session's call says; UE_BUSY is an answer."""
    if status == UE_NO_MEMORY:
        raise MemoryError(refused())
    if status != UE_OK and status != UE_BUSY:
        raise ValueError(refused())
    return 0


@cython.no_gc_clear
cdef class Intake:
    cdef ue_intake *handle
    cdef readonly Bag bag  # which outlives the session
    cdef ue_intake_options options

    def __cinit__(
        self, Bag bag not None, *, size_t capacity, int64_t width, int64_t height,
        double downsample, size_t tile, size_t crop, size_t field, size_t max_tiles,
        size_t token_width, size_t batch, size_t most_ready, size_t most_held, size_t most_open,
        uint8_t cellular_below, uint8_t dark_below, double background_share,
        const float[::1] affine, str dtype not None, bytes spool, bytes spool_key not None,
    ):
        cdef size_t k
        cdef const uint8_t[::1] key = spool_key
        cdef ue_status status
        must_be([affine.shape[0], key.shape[0]], [12, 32])
        self.bag = bag
        self.options.struct_size = sizeof(ue_intake_options)
        self.options.width, self.options.height = width, height
        self.options.downsample = downsample
        self.options.tile, self.options.crop, self.options.field = tile, crop, field
        self.options.max_tiles = max_tiles
        self.options.token_width, self.options.batch = token_width, batch
        self.options.most_ready = most_ready
        self.options.most_held, self.options.most_open = most_held, most_open
        self.options.cellular_below, self.options.dark = cellular_below, dark_below
        self.options.background_share = background_share
        for k in range(12):
            self.options.affine[k] = affine[k]
        self.options.dtype = dtype_named(dtype)
        self.options.bag, self.options.capacity = bag.handle, capacity
        for k in range(32):
            self.options.spool_key[k] = key[k]
        if spool is not None:
            if 0 in spool:
                raise ValueError("the name of a spool file has no NUL in it")
            self.options.spool = spool
        with nogil:
            status = ue_intake_open(&self.options, &self.handle)
        self.options.spool = NULL  # the bytes are the caller's
        let(status)

    def __dealloc__(self):
        ue_intake_destroy(self.handle)

    def push(
        self, const uint8_t[:, :, :] tile not None, int64_t x, int64_t y, double score, bint given
    ) -> None:
        cdef ue_status status
        cdef size_t side = self.options.tile
        must_be([tile.shape[0], tile.shape[1], tile.shape[2]], [side, side, 3])
        cdef ue_pixels pixels = pixels_of(tile)
        with nogil:
            status = ue_intake_push(self.handle, &pixels, x, y, score, given)
        let(status)

    def skip(self, int64_t x, int64_t y) -> None:
        cdef ue_status status
        with nogil:
            status = ue_intake_skip(self.handle, x, y)
        let(status)

    def fail(self, int64_t x, int64_t y, double score) -> None:
        cdef ue_status status
        with nogil:
            status = ue_intake_fail(self.handle, x, y, score)
        let(status)

    def came(self, int64_t x, int64_t y) -> bool:
        cdef ue_status status
        with nogil:
            status = ue_intake_came(self.handle, x, y)
        let(status)
        return status == UE_OK

    def room(self, unsigned milliseconds) -> bool:
        cdef ue_status status
        with nogil:
            status = ue_intake_room(self.handle, milliseconds)
        let(status)
        return status == UE_OK

    def end(self) -> None:
        cdef ue_status status
        with nogil:
            status = ue_intake_end(self.handle)
        let(status)

    def drained(self, unsigned milliseconds) -> bool:
        cdef ue_status status
        with nogil:
            status = ue_intake_drained(self.handle, milliseconds)
        let(status)
        return status == UE_OK

    def cancel(self) -> None:
        with nogil:
            ue_intake_cancel(self.handle)

    def let_go(self) -> None:
        with nogil:
            ue_intake_let_go(self.handle)

    def take(self, out, uint32_t[::1] cells not None, unsigned milliseconds) -> int | None:
        cdef ue_status status
        cdef size_t count = 0
        cdef Py_buffer view
        must_be([cells.shape[0]], [self.options.batch])
        PyObject_GetBuffer(out, &view, PyBUF_FORMAT | PyBUF_C_CONTIGUOUS | PyBUF_WRITABLE)
        try:
            self.check_planes(&view)
            with nogil:
                status = ue_intake_take(self.handle, view.buf, &cells[0], &count, milliseconds)
        finally:
            PyBuffer_Release(&view)
        if status == UE_ENDED:
            return None
        let(status)
        return count

    cdef int check_planes(self, const Py_buffer *view) except -1:
        cdef size_t wanted = self.options.batch * 3 * self.options.crop * self.options.crop
        if dtype_of(view) != self.options.dtype or view.len != wanted * view.itemsize:
            raise ValueError("the planes are not of the session's batch, crop and dtype")
        return 0

    def deliver(
        self, const uint32_t[::1] cells not None, const float[:, ::1] tokens not None
    ) -> int | None:
        cdef ue_status status
        cdef size_t count = cells.shape[0], stride = tokens.shape[1], bad = 0
        if not count:
            return None
        if tokens.shape[0] < cells.shape[0]:
            raise ValueError(f"{tokens.shape[0]} tokens for {count} tiles")
        must_be([stride], [self.options.token_width])
        with nogil:
            status = ue_intake_deliver(
                self.handle, &cells[0], count, &tokens[0, 0], stride, &bad
            )
        if status == UE_BAD_TOKENS and bad < count:
            return bad
        let(status)
        return None

    def so_far(
        self, uint32_t[::1] cells not None, float[:, ::1] tokens not None
    ) -> int:
        cdef ue_status status
        cdef size_t count = 0, room = cells.shape[0]
        cdef uint32_t *first = &cells[0] if room else NULL
        cdef float *values = &tokens[0, 0] if room else NULL
        must_be([tokens.shape[0], tokens.shape[1]], [room, self.options.token_width])
        with nogil:
            status = ue_intake_so_far(self.handle, first, values, room, &count)
        let(status)
        return count

    def order(self, uint32_t[::1] cells not None) -> int:
        cdef ue_status status
        cdef size_t count = 0, room = cells.shape[0]
        cdef uint32_t *first = &cells[0] if room else NULL
        with nogil:
            status = ue_intake_order(self.handle, first, room, &count)
        if status == UE_BUSY:
            raise ValueError(refused())
        let(status)
        return count

    def keep(self, const uint32_t[::1] cells not None, uint8_t[::1] has not None) -> None:
        cdef ue_status status
        cdef size_t count = cells.shape[0]
        cdef const uint32_t *first = &cells[0] if count else NULL
        cdef uint8_t *found = &has[0] if count else NULL
        must_be([has.shape[0]], [count])
        with nogil:
            status = ue_intake_keep(self.handle, first, count, found)
        let(status)

    def tokens(self, const uint32_t[::1] cells not None, float[:, ::1] tokens not None) -> None:
        cdef ue_status status
        cdef size_t count = cells.shape[0]
        must_be([tokens.shape[0], tokens.shape[1]], [count, self.options.token_width])
        if count:
            with nogil:
                status = ue_intake_tokens(self.handle, &cells[0], count, &tokens[0, 0])
            let(status)

    def places(self, const uint32_t[::1] cells not None, size_t[::1] places not None) -> None:
        cdef ue_status status
        cdef size_t count = cells.shape[0]
        must_be([places.shape[0]], [count])
        if count:
            with nogil:
                status = ue_intake_places(self.handle, &cells[0], count, &places[0])
            let(status)

    def records(
        self, uint8_t[::1] status not None, double[::1] score not None,
        float[::1] cellular not None, float[::1] focus not None, size_t cells,
    ) -> None:
        cdef ue_status done
        must_be(
            [status.shape[0], score.shape[0], cellular.shape[0], focus.shape[0]], [cells] * 4
        )
        with nogil:
            done = ue_intake_records(
                self.handle, &status[0], &score[0], &cellular[0], &focus[0]
            )
        let(done)

    def progress(self) -> tuple[int, int, int, int, int]:
        cdef ue_session_progress found
        cdef ue_status status
        with nogil:
            status = ue_intake_progress_of(self.handle, &found)
        let(status)
        return found.seen, found.held, found.ready, found.encoding, found.encoded
