# The verdict of csrc/verdict, included by _native.pyx.


cdef ue_error nothing() noexcept:
    """What a call that does not fail leaves as it is."""
    cdef ue_error error
    memset(&error, 0, sizeof(error))
    return error


cdef int told(ue_status status, const ue_error *error) except -1:
    """Raise what a call says."""
    if status == UE_NO_MEMORY:
        raise MemoryError((<bytes>error.text).decode("utf-8", "replace"))
    if status != UE_OK:
        raise ValueError((<bytes>error.text).decode("utf-8", "replace"))
    return 0


def probability(
    const float[::1] logits not None, size_t classes, size_t positive, double temperature
) -> float:
    if not 0 < classes <= <size_t>logits.shape[0] or positive >= classes or not temperature > 0:
        raise ValueError(f"no class {positive} of {classes} in {logits.shape[0]} logits")
    return ue_probability(&logits[0], classes, positive, temperature)


cdef class Knowledge:
    cdef ue_knowledge handle
    cdef readonly size_t width, kinds

    def __cinit__(
        self, const uint8_t[::1] aggregated not None,
        const double[:, ::1] kinds_weight not None, const double[::1] kinds_bias not None,
        const double[::1] mean not None, const double[:, ::1] covariance not None,
        const double[::1] cells_weight not None, const double[::1] cells_bias not None,
        const double[::1] scale_weight not None, const double[::1] scale_bias not None,
    ):
        cdef ue_error error = nothing()
        cdef ue_knowledge_parts parts
        cdef ue_status status
        self.kinds, self.width = kinds_weight.shape[0], kinds_weight.shape[1]
        if not self.kinds or not self.width:
            raise ValueError("there is no kind, or no number in a token")
        must_be(
            [aggregated.shape[0], kinds_bias.shape[0], mean.shape[0], covariance.shape[0],
             covariance.shape[1], cells_weight.shape[0], cells_bias.shape[0],
             scale_weight.shape[0], scale_bias.shape[0]],
            [self.kinds] * 2 + [self.width] * 4 + [1, self.width, 1],
        )
        parts.kinds_weight, parts.kinds_bias = &kinds_weight[0, 0], &kinds_bias[0]
        parts.mean, parts.covariance = &mean[0], &covariance[0, 0]
        parts.cells_weight, parts.cells_bias = &cells_weight[0], &cells_bias[0]
        parts.scale_weight, parts.scale_bias = &scale_weight[0], &scale_bias[0]
        with nogil:
            status = ue_knowledge_make(
                &self.handle, self.kinds, self.width, &aggregated[0], &parts, &error
            )
        told(status, &error)

    def __dealloc__(self):
        ue_knowledge_free(&self.handle)

    def read(self, const float[:, ::1] tokens not None) -> TokenReading:
        cdef ue_error error = nothing()
        cdef ue_status status
        cdef size_t count = tokens.shape[0]
        cdef const float *first = &tokens[0, 0] if count else NULL
        cdef TokenReading reading = TokenReading.__new__(TokenReading)
        must_be([tokens.shape[1]], [self.width])
        with nogil:
            status = ue_read_tokens(&reading.handle, &self.handle, first, count, &error)
        told(status, &error)
        return reading


cdef class TokenReading:
    cdef ue_reading handle

    def __dealloc__(self):
        ue_reading_free(&self.handle)

    @property
    def count(self) -> int:
        return self.handle.count

    @property
    def counts(self) -> list[int]:
        return [self.handle.counts[k] for k in range(self.handle.kinds)]

    @property
    def slide_distance(self) -> float:
        return self.handle.slide_distance

    @property
    def um_px_factor(self) -> float:
        return self.handle.um_px_factor

    def copy(
        self, int32_t[::1] kind not None, uint8_t[::1] aggregated not None,
        double[::1] distance not None, double[::1] cells not None, double[::1] octaves not None,
    ) -> None:
        cdef size_t n = self.handle.count
        must_be(
            [kind.shape[0], aggregated.shape[0], distance.shape[0], cells.shape[0],
             octaves.shape[0]],
            [n] * 5,
        )
        if n:
            memcpy(&kind[0], self.handle.kind, n * sizeof(int32_t))
            memcpy(&aggregated[0], self.handle.aggregated, n)
            memcpy(&distance[0], self.handle.distance, n * sizeof(double))
            memcpy(&cells[0], self.handle.cells, n * sizeof(double))
            memcpy(&octaves[0], self.handle.octaves, n * sizeof(double))


cdef class Judge:
    """What `judge` is given, piece by piece: each is kept here while C looks at it."""
    cdef ue_manifest manifest
    cdef ue_context context
    cdef ue_evidence evidence
    cdef list kept

    def __cinit__(
        self, bytes manifest not None, *, int64_t width, int64_t height, double downsample,
        size_t tile, size_t field, double um_px, bytes um_px_source not None,
        bytes colour_mode not None, list colour_warnings not None, bytes unverified,
    ):
        cdef ue_error error = nothing()
        text = bytearray(manifest)  # parsed in place, and pointed into
        text.append(0)
        self.kept = [text, um_px_source, colour_mode, colour_warnings, unverified]
        told(
            ue_manifest_parse(&self.manifest, text, len(manifest), b"bundle.json", &error), &error
        )
        self.context.manifest = &self.manifest
        if not ue_grid_of(width, height, tile * downsample, field, &self.context.grid):
            raise ValueError(f"a grid of {width} x {height} pixels is not possible")
        self.context.width, self.context.height = width, height
        self.context.downsample, self.context.um_px = downsample, um_px
        self.context.um_px_source, self.context.colour_mode = um_px_source, colour_mode
        if unverified is not None:
            self.context.unverified = unverified
        self.context.colour_warnings_count = len(colour_warnings)
        self.context.colour_warnings = self.strings(colour_warnings)
        if self.context.colour_warnings == NULL:
            raise MemoryError("not enough memory to judge the slide")

    cdef const char **strings(self, list texts):
        """Return pointers to bytes or None, which the caller keeps; NULL: no memory."""
        cdef const char **found = <const char **>calloc(len(texts) + 1, sizeof(char *))
        if found != NULL:
            for k, text in enumerate(texts):
                if text is not None:
                    found[k] = <bytes>text
        return found

    def __dealloc__(self):
        free(<void *>self.context.colour_warnings)
        free(<void *>self.evidence.causes)
        ue_manifest_free(&self.manifest)

    def see(
        self, const uint32_t[::1] planned not None, const uint8_t[::1] status not None,
        const double[::1] score not None, const float[::1] cellular not None,
        const float[::1] focus not None, list causes not None,
    ) -> None:
        cdef size_t cells = self.context.grid.rows * self.context.grid.cols
        must_be(
            [status.shape[0], score.shape[0], cellular.shape[0], focus.shape[0], len(causes)],
            [cells] * 4 + [planned.shape[0]],
        )
        self.check_cells(planned)
        self.kept += [planned, status, score, cellular, focus, causes]
        if planned.shape[0]:
            self.evidence.planned = &planned[0]
        self.evidence.planned_count = planned.shape[0]
        self.evidence.status, self.evidence.score = &status[0], &score[0]
        self.evidence.cellular, self.evidence.focus = &cellular[0], &focus[0]
        free(<void *>self.evidence.causes)
        self.evidence.causes = self.strings(causes)
        if self.evidence.causes == NULL:
            raise MemoryError("not enough memory to judge the slide")

    cdef int check_cells(self, const uint32_t[::1] cells) except -1:
        cdef size_t most = self.context.grid.rows * self.context.grid.cols
        cdef Py_ssize_t k
        for k in range(cells.shape[0]):
            if cells[k] >= most:
                raise ValueError("a cell is off the grid")
        return 0

    def expect(
        self, const uint32_t[::1] expected, size_t scored_tiles, const double[::1] grid_scores
    ) -> None:
        cdef size_t cells = self.context.grid.rows * self.context.grid.cols
        self.kept += [expected, grid_scores]
        self.evidence.scored_tiles = scored_tiles
        if expected is not None:
            self.check_cells(expected)
            # none at all is not the same as no list
            self.evidence.expected = &expected[0] if expected.shape[0] else <uint32_t *>1
            self.evidence.expected_count = expected.shape[0]
        if grid_scores is not None:
            must_be([grid_scores.shape[0]], [cells])
            self.evidence.grid_scores = &grid_scores[0]

    def read(self, const float[:, ::1] tokens not None, TokenReading reading) -> None:
        cdef size_t encoded = self.encoded()
        must_be([tokens.shape[0], tokens.shape[1]], [encoded, self.manifest.encoder.width])
        self.kept += [tokens, reading]
        if encoded:
            self.evidence.tokens = &tokens[0, 0]
        if reading is not None:
            must_be([reading.handle.count], [encoded])
            self.evidence.reading = &reading.handle

    cdef size_t shown(self):
        """How many tiles the aggregator was shown."""
        if self.evidence.reading != NULL:
            return self.evidence.reading.aggregated_count
        return self.encoded()

    cdef size_t encoded(self):
        cdef size_t found = 0, k
        for k in range(self.evidence.planned_count):
            found += self.evidence.status[self.evidence.planned[k]] == UE_TILE_ENCODED
        return found

    def aggregate(
        self, const float[:, ::1] logits not None, const float[:, ::1] attention not None
    ) -> None:
        cdef const ue_task *tasks = <const ue_task *>self.manifest.tasks.items
        cdef size_t k, tasks_count = self.manifest.tasks.count
        must_be(
            [logits.shape[0], attention.shape[0], attention.shape[1]],
            [tasks_count, tasks_count, self.shown()],
        )
        for k in range(tasks_count):
            if tasks[k].classes.count > <size_t>logits.shape[1]:
                raise ValueError("a task has more classes than the logits")
        self.kept += [logits, attention]
        self.evidence.logits, self.evidence.most_classes = &logits[0, 0], logits.shape[1]
        self.evidence.attention = &attention[0, 0]

    def judge(
        self, uint8_t[::1] tiles not None, float[:, ::1] attention not None
    ) -> tuple[str | None, bytes]:
        """Fill `tiles` (`ue_tile` [planned]); return what contradicts the slide, and the JSON."""
        cdef ue_error error = nothing()
        cdef ue_verdict verdict
        cdef ue_json_out out
        cdef size_t planned = self.evidence.planned_count
        must_be(
            [tiles.shape[0], attention.shape[0], attention.shape[1]],
            [planned * sizeof(ue_tile), self.manifest.tasks.count, planned],
        )
        memset(&out, 0, sizeof(out))
        try:
            status = ue_judge(&verdict, &self.context, &self.evidence, &error)
            if planned and status == UE_OK:
                memcpy(&tiles[0], verdict.tiles, planned * sizeof(ue_tile))
                memcpy(
                    &attention[0, 0], verdict.attention,
                    self.manifest.tasks.count * planned * sizeof(float),
                )
            if status == UE_BAD_SLIDE:
                return (<bytes>error.text).decode("utf-8", "replace"), b""
            told(status, &error)
            ue_out_open(&out, b"{")
            ue_write_verdict(&out, &verdict, &self.context, &self.evidence)
            ue_out_close(&out, b"}")
            if out.text.broken:
                raise MemoryError("not enough memory to judge the slide")
            return None, out.text.bytes[:out.text.length]
        finally:
            ue_verdict_free(&verdict)
            ue_text_free(&out.text)
