# What of csrc the Cython module calls.
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t


cdef extern from "unicas_edge.h" nogil:
    ctypedef enum ue_status:
        UE_OK
        UE_BAD_AFFINE
        UE_NO_MEMORY
        UE_BAD_TOKENS
        UE_BUSY
        UE_ENDED
        UE_BAD_SLIDE

    ctypedef enum ue_dtype:
        UE_FLOAT32
        UE_FLOAT16
        UE_UINT8

    ctypedef struct ue_image:
        const uint8_t *pixels
        size_t height
        size_t width
        Py_ssize_t row_stride

    ctypedef struct ue_pixels:
        const uint8_t *red
        Py_ssize_t row_stride, pixel_stride, channel_stride

    ctypedef struct ue_measures:
        uint64_t cellular
        uint64_t dark
        uint64_t channel_sum[3]
        int64_t laplacian_sum
        uint64_t laplacian_squares
        uint64_t laplacian_count

    const char *ue_status_text(ue_status status)
    uint32_t ue_version()
    size_t ue_usable_cores()
    const char *ue_variant_name(size_t index)
    const char *ue_normalise_variant(const float *affine, ue_dtype dtype)
    const char *ue_measure_variant()
    ue_status ue_normalise(
        const ue_image *image, const float *affine, ue_dtype dtype, void *dst,
        size_t channel_stride, const char *variant,
    )
    ue_status ue_measure(
        const ue_image *image, uint8_t cellular_below, uint8_t dark_below,
        ue_measures *measures, const char *variant,
    )
    ue_status ue_content_score(
        const ue_pixels *pixels, size_t height, size_t width, double *score, const char *variant,
    )

    ctypedef struct ue_aggregator:
        pass

    ctypedef struct ue_bag:
        pass

    ctypedef struct ue_aggregator_options:
        size_t struct_size
        size_t threads
        const char *variant

    ctypedef struct ue_aggregator_info:
        size_t struct_size
        size_t embed_dim_in, embed_dim, depth, num_tasks, most_classes, threads
        const char *variant
        const char *experts
        uint64_t stored_bytes, prepared_bytes

    enum: UE_PASSES

    ue_status ue_aggregator_open(
        const char *path, const ue_aggregator_options *options, ue_aggregator **aggregator,
    )
    ue_status ue_aggregator_from_memory(
        const void *data, size_t size, const ue_aggregator_options *options,
        ue_aggregator **aggregator,
    )
    void ue_aggregator_destroy(ue_aggregator *aggregator)
    const char *ue_aggregator_error(const ue_aggregator *aggregator)
    ue_status ue_aggregator_describe(const ue_aggregator *aggregator, ue_aggregator_info *info)
    const char *ue_aggregator_variant(size_t index)
    ue_status ue_aggregator_bag(ue_aggregator *aggregator, size_t capacity, ue_bag **bag)
    size_t ue_aggregator_bag_bytes(const ue_bag *bag)
    const char *ue_aggregator_bag_error(const ue_bag *bag)
    void ue_aggregator_free_bag(ue_bag *bag)
    ue_status ue_aggregator_push(
        ue_bag *bag, size_t first, const float *tokens, size_t count, size_t stride,
    )
    ue_status ue_aggregator_arrange(ue_bag *bag, const size_t *order, size_t n)
    ue_status ue_aggregator_finish_many(
        ue_bag **bags, size_t count, float **logits, double *seconds,
    )
    ue_status ue_aggregator_explain(ue_bag *bag, float *attention)
    ue_status ue_aggregator_task_tokens(ue_bag *bag, float *tokens)


cdef extern from "system/machine.h" nogil:
    enum:
        UE_MACHINE_TEXT
    void ue_isa(const char *root, char *isa)
    void ue_processor(const char *root, char *name)
    uint64_t ue_available_bytes(const char *root)
cdef extern from "unicas_edge_colour.h" nogil:
    ctypedef struct ue_colour_sample:
        pass

    ctypedef struct ue_colour:
        size_t struct_size
        const char *mode
        double matrix[12]
        const char *warning

    ue_status ue_colour_open(size_t most, ue_colour_sample **sample)
    void ue_colour_close(ue_colour_sample *sample)
    const char *ue_colour_error(const ue_colour_sample *sample)
    ue_status ue_colour_add(
        ue_colour_sample *sample, const ue_pixels *pixels, size_t height, size_t width,
        size_t step,
    )
    ue_status ue_colour_fit(
        ue_colour_sample *sample, const char *mode, const double *mean, const double *std,
        ue_colour *colour, size_t *used,
    )


cdef extern from "colour/lab.h" nogil:
    cdef struct ue_lab:
        pass

    void ue_lab_set(ue_lab *lab)
    void ue_lab_of(const ue_lab *lab, const uint8_t *rgb, double *out)
    void ue_lab_to_rgb(const ue_lab *lab, const double *lab_in, double *rgb)


cdef extern from "intake/intake.h" nogil:
    ctypedef struct ue_intake:
        pass

    ctypedef struct ue_intake_options:
        size_t struct_size
        int64_t width, height
        double downsample
        size_t tile, crop, field
        size_t max_tiles
        size_t token_width, batch
        size_t most_ready
        size_t most_held, most_open
        uint8_t cellular_below, dark
        double background_share
        float affine[12]
        ue_dtype dtype
        ue_bag *bag
        size_t capacity
        const char *spool
        uint8_t spool_key[32]

    enum: UE_TILE_ENCODED

    ctypedef struct ue_session_progress:
        size_t seen, held, ready, encoding, encoded

    ue_status ue_intake_open(const ue_intake_options *options, ue_intake **session)
    void ue_intake_destroy(ue_intake *session)
    const char *ue_intake_error()
    ue_status ue_intake_push(
        ue_intake *session, const ue_pixels *pixels, int64_t x, int64_t y, double score,
        bint given,
    )
    ue_status ue_intake_skip(ue_intake *session, int64_t x, int64_t y)
    ue_status ue_intake_fail(ue_intake *session, int64_t x, int64_t y, double score)
    ue_status ue_intake_came(ue_intake *session, int64_t x, int64_t y)
    ue_status ue_intake_room(ue_intake *session, unsigned milliseconds)
    ue_status ue_intake_end(ue_intake *session)
    ue_status ue_intake_let_go(ue_intake *session)
    ue_status ue_intake_drained(ue_intake *session, unsigned milliseconds)
    void ue_intake_cancel(ue_intake *session)
    ue_status ue_intake_take(
        ue_intake *session, void *planes, uint32_t *cells, size_t *count, unsigned milliseconds,
    )
    ue_status ue_intake_deliver(
        ue_intake *session, const uint32_t *cells, size_t count, const float *tokens,
        size_t stride, size_t *bad,
    )
    ue_status ue_intake_so_far(
        ue_intake *session, uint32_t *cells, float *tokens, size_t room, size_t *count,
    )
    ue_status ue_intake_order(
        ue_intake *session, uint32_t *cells, size_t capacity, size_t *count,
    )
    ue_status ue_intake_keep(
        ue_intake *session, const uint32_t *cells, size_t count, uint8_t *has,
    )
    ue_status ue_intake_tokens(
        ue_intake *session, const uint32_t *cells, size_t count, float *tokens,
    )
    ue_status ue_intake_places(
        ue_intake *session, const uint32_t *cells, size_t count, size_t *places,
    )
    ue_status ue_intake_records(
        ue_intake *session, uint8_t *status, double *score, float *cellular, float *focus,
    )
    ue_status ue_intake_progress_of(ue_intake *session, ue_session_progress *progress)


cdef extern from "bundle/manifest.h" nogil:
    struct ue_error:
        ue_status status
        char text[512]

    struct ue_list:
        void *items
        size_t count

    struct ue_task:
        ue_list classes

    struct ue_encoder_spec:
        uint64_t width

    struct ue_manifest:
        ue_encoder_spec encoder
        ue_list tasks

    ue_status ue_manifest_parse(
        ue_manifest *manifest, char *text, size_t length, const char *file, ue_error *error,
    )
    void ue_manifest_free(ue_manifest *manifest)


cdef extern from "formats/json_out.h" nogil:
    struct ue_text:
        char *bytes
        size_t length
        bint broken

    struct ue_json_out:
        ue_text text

    void ue_text_free(ue_text *text)
    void ue_out_open(ue_json_out *out, char bracket)
    void ue_out_close(ue_json_out *out, char bracket)


cdef extern from "intake/grid.h" nogil:
    struct ue_grid:
        size_t rows, cols

    bint ue_grid_of(int64_t width, int64_t height, double step, size_t field, ue_grid *grid)


cdef extern from "verdict/verdict.h" nogil:
    struct ue_knowledge_parts:
        const double *kinds_weight
        const double *kinds_bias
        const double *mean
        const double *covariance
        const double *cells_weight
        const double *cells_bias
        const double *scale_weight
        const double *scale_bias

    struct ue_knowledge:
        size_t width, kinds

    ue_status ue_knowledge_make(
        ue_knowledge *knowledge, size_t kinds, size_t width, const uint8_t *aggregated,
        const ue_knowledge_parts *parts, ue_error *error,
    )
    void ue_knowledge_free(ue_knowledge *knowledge)

    struct ue_reading:
        size_t count, kinds, aggregated_count
        int32_t *kind
        uint8_t *aggregated
        double *distance
        double *cells
        double *octaves
        size_t *counts
        double slide_distance, um_px_factor

    ue_status ue_read_tokens(
        ue_reading *reading, const ue_knowledge *knowledge, const float *tokens, size_t count,
        ue_error *error,
    )
    void ue_reading_free(ue_reading *reading)

    ctypedef struct ue_tile:
        int64_t x

    struct ue_context:
        const ue_manifest *manifest
        ue_grid grid
        int64_t width, height
        double downsample, um_px
        const char *um_px_source
        const char *colour_mode
        const char **colour_warnings
        size_t colour_warnings_count
        const char *unverified

    struct ue_evidence:
        const uint32_t *planned
        size_t planned_count
        const uint8_t *status
        const double *score
        const float *cellular
        const float *focus
        const float *tokens
        const ue_reading *reading
        const float *logits
        size_t most_classes
        const float *attention
        const uint32_t *expected
        size_t expected_count, scored_tiles
        const double *grid_scores
        const char **causes

    struct ue_verdict:
        ue_tile *tiles
        float *attention

    ue_status ue_judge(
        ue_verdict *verdict, const ue_context *context, const ue_evidence *evidence,
        ue_error *error,
    )
    void ue_verdict_free(ue_verdict *verdict)
    void ue_write_verdict(
        ue_json_out *out, const ue_verdict *verdict, const ue_context *context,
        const ue_evidence *evidence,
    )
    double ue_probability(
        const float *logits, size_t classes, size_t positive, double temperature,
    )
