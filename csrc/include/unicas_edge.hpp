/*
 * unicas_edge.hpp: bundles, encoders and sessions as C++17 classes over the C interface.
 *
 *     unicas_edge::Bundle bundle("model");
 *     unicas_edge::Encoder encoder(bundle);
 *     unicas_edge::Screener screener(bundle, encoder);        (once, for any number of slides)
 *     unicas_edge::Session session(screener, options);
 *     session.push(rgb, x, y);                                (as often as tiles come)
 *     session.finish();
 *     std::cout << session.result_json();
 *
 * The C headers say what each call does; this one says what is different here:
 *
 * - A call that fails throws Error, which has the status and the sentence of the C call.
 * - Objects are moved, never copied. One that was moved from may be destroyed or assigned to. They
 *   may be destroyed in any order: a screener keeps its bundle and encoder, a session its screener.
 * - Texts are UTF-8. One with U+0000 in it is refused, as C would cut it there.
 * - What a host's own encoder or decoder throws ends there: it fails that batch or that tile.
 */
#ifndef UNICAS_EDGE_HPP
#define UNICAS_EDGE_HPP

#include <array>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "unicas_edge_models.hpp"
#include "unicas_edge_session.h"

namespace unicas_edge {

/* A bundle's models for any number of sessions, which may run at once. */
class Screener {
  public:
    /* `threads` and `variant` of the aggregator; 0 and none: what is usual. */
    Screener(const Bundle &bundle, const Encoder &encoder, size_t threads = 0,
             const std::string &variant = "")
        : info_(bundle.info()) {
        ue_aggregator_options options{};
        options.struct_size = sizeof options;
        options.threads = threads;
        options.variant = detail::text_if_any(variant);
        ue_screener *opened = nullptr;
        const ue_status status =
            ue_screener_open(bundle.get(), encoder.table_.get(), &options, &opened);
        const auto close = [kept = bundle.handle_, table = encoder.table_](ue_screener *screener) {
            ue_screener_close(screener);
        };
        handle_.reset(opened, close);
        detail::check(status, ue_session_error());
    }
    Screener(Screener &&) noexcept = default;
    Screener &operator=(Screener &&) noexcept = default;

    /* The bundle's description. */
    const ue_bundle_info &info() const noexcept {
        return info_;
    }

  private:
    friend class Session;
    ue_bundle_info info_;
    std::shared_ptr<ue_screener> handle_;
};

/* How a slide's colours are corrected; see ue_colour. */
struct Colour {
    std::string mode;
    std::array<double, 12> matrix{};
    std::string warning;
};

/* Pixels on which a correction is fitted (unicas_edge_colour.h): some 32 tiles from all over. */
class ColourSample {
  public:
    ColourSample() {
        ue_colour_sample *opened = nullptr;
        const ue_status status = ue_colour_open(0, &opened);
        handle_.reset(opened, ue_colour_close);
        detail::check(status, "");
    }
    ColourSample(ColourSample &&) noexcept = default;
    ColourSample &operator=(ColourSample &&) noexcept = default;

    /* Every 4th pixel of RGB [side][side][3], along and down, as Python's fit_colour takes them. */
    void add(Span<const unsigned char> rgb, size_t side) {
        if (rgb.size() != 3 * side * side)
            throw Error(UE_BAD_SIZE, "an image has not side x side x 3 bytes");
        const ue_pixels pixels = {rgb.data(), static_cast<ptrdiff_t>(3 * side), 3, 1};
        told(ue_colour_add(handle_.get(), &pixels, side, side, 4));
    }
    /* As the bundle asks, unless a mode says otherwise. */
    Colour fit(const Bundle &bundle, const std::string &mode = "") {
        static const char *const modes[] = {"none", "white-balance", "reinhard"};
        const ue_bundle_info info = bundle.info();
        const char *asked = mode.empty() ? modes[info.colour] : detail::text(mode);
        ue_colour found{};
        found.struct_size = sizeof found;
        told(ue_colour_fit(handle_.get(), asked, info.colour_mean, info.colour_std, &found,
                           nullptr));
        Colour colour{found.mode, {}, found.warning ? found.warning : ""};
        for (size_t k = 0; k < colour.matrix.size(); k++)
            colour.matrix[k] = found.matrix[k];
        return colour;
    }

  private:
    void told(ue_status status) const {
        detail::check(status, status ? ue_colour_error(handle_.get()) : "");
    }

    std::shared_ptr<ue_colour_sample> handle_;
};

/* Fill `rgb` [side][side][3] from a compressed tile; throw where that cannot be done. */
using Decoder =
    std::function<void(const void *bytes, size_t size, unsigned char *rgb, size_t side)>;

/* See ue_session_options. */
struct SessionOptions {
    int64_t width = 0, height = 0;
    double um_px = 0;
    size_t max_tiles = 0;
    std::optional<Colour> colour;
    size_t memory = 0;
    Decoder decoder; /* of push_jpeg; may be called by several threads at once */
    std::string spool;
    std::string name, path, um_px_source, sha256;
};

struct Grid {
    size_t rows, cols;
};

/* A tile's top left corner, in level-0 pixels. */
struct Place {
    int64_t x, y;
};

/*
 * One slide, screened while it is being scanned (unicas_edge_session.h). All calls but the
 * destructor may come from any thread; before that, cancel, and wait for the others.
 */
class Session {
  public:
    Session(const Screener &screener, const SessionOptions &given) : info_(screener.info()) {
        auto decoder = std::make_shared<Decoder>(given.decoder);
        ue_colour colour{};
        const ue_session_options options = plain(given, decoder.get(), colour);
        ue_session *opened = nullptr;
        const ue_status status = ue_session_open(screener.handle_.get(), &options, &opened);
        const auto close = [kept = screener.handle_, decoder](ue_session *session) {
            ue_session_close(session);
        };
        handle_.reset(opened, close);
        detail::check(status, ue_session_error());
    }
    Session(Session &&) noexcept = default;
    Session &operator=(Session &&) noexcept = default;

    double step() const {
        return ue_session_step(handle_.get());
    }
    Grid grid() const {
        Grid grid{};
        told(ue_session_grid(handle_.get(), &grid.rows, &grid.cols));
        return grid;
    }
    Place origin(size_t row, size_t col) const {
        Place place{};
        told(ue_session_origin(handle_.get(), row, col, &place.x, &place.y));
        return place;
    }

    /* Take in RGB [tile_px][tile_px][3]; waits while memory is full. */
    void push(Span<const unsigned char> rgb, int64_t x, int64_t y, double score = UE_NO_SCORE) {
        push(packed(rgb), x, y, score);
    }
    void push(const ue_pixels &pixels, int64_t x, int64_t y, double score = UE_NO_SCORE) {
        told(ue_session_push(handle_.get(), &pixels, x, y, score, UE_FOREVER));
    }
    void push_jpeg(Span<const unsigned char> bytes, int64_t x, int64_t y) {
        told(ue_session_push_jpeg(handle_.get(), bytes.data(), bytes.size(), x, y, UE_FOREVER));
    }
    /* Wait so long at most; false: memory is still full, and the tile was not taken. */
    [[nodiscard]] bool try_push(const ue_pixels &pixels, int64_t x, int64_t y, double score,
                                uint32_t milliseconds) {
        return unless_busy(ue_session_push(handle_.get(), &pixels, x, y, score, milliseconds));
    }
    [[nodiscard]] bool try_push_jpeg(Span<const unsigned char> bytes, int64_t x, int64_t y,
                                     uint32_t milliseconds) {
        return unless_busy(
            ue_session_push_jpeg(handle_.get(), bytes.data(), bytes.size(), x, y, milliseconds));
    }
    void skip(int64_t x, int64_t y) {
        told(ue_session_skip(handle_.get(), x, y));
    }
    void fail(int64_t x, int64_t y, const std::string &cause) {
        told(ue_session_fail(handle_.get(), x, y, detail::text(cause)));
    }
    bool came(int64_t x, int64_t y) const {
        return unless_busy(ue_session_came(handle_.get(), x, y));
    }

    ue_session_progress progress() const {
        ue_session_progress progress{};
        told(ue_session_progress_of(handle_.get(), &progress));
        return progress;
    }
    /* Each task's probability so far, which is no result; nothing before a tile was encoded. */
    std::optional<std::vector<double>> estimate() const {
        std::vector<double> probabilities(info_.tasks);
        if (!unless_busy(ue_session_estimate(handle_.get(), probabilities.data())))
            return std::nullopt;
        return probabilities;
    }

    void finish() {
        told(ue_session_finish(handle_.get(), UE_FOREVER));
    }
    [[nodiscard]] bool try_finish(uint32_t milliseconds) {
        return unless_busy(ue_session_finish(handle_.get(), milliseconds));
    }
    void cancel() noexcept {
        ue_session_cancel(handle_.get());
    }

    /* What follows is there once `finish` is through. Pointers are valid as long as the session. */

    std::string result_json() const {
        return finished(ue_session_result_json(handle_.get()));
    }
    std::vector<ue_answer> answers() const {
        std::vector<ue_answer> answers(info_.tasks);
        for (size_t task = 0; task < answers.size(); task++) {
            answers[task].struct_size = sizeof answers[task];
            told(ue_session_answer(handle_.get(), task, &answers[task]));
        }
        return answers;
    }
    std::vector<std::string> reasons() const {
        std::vector<std::string> reasons;
        while (const char *reason = ue_session_reason(handle_.get(), reasons.size()))
            reasons.emplace_back(reason);
        return reasons;
    }
    std::vector<std::string> kinds() const {
        std::vector<std::string> kinds;
        while (const char *kind = ue_session_kind(handle_.get(), kinds.size()))
            kinds.emplace_back(kind);
        return kinds;
    }
    Span<const ue_tile> tiles() const {
        size_t count = 0;
        const ue_tile *first = ue_session_tiles(handle_.get(), &count);
        return {first, first ? count : 0};
    }
    /* [tokens][info().width] */
    Span<const float> tokens() const {
        size_t count = 0;
        const float *first = ue_session_tokens(handle_.get(), &count);
        return {first, first ? count * info_.width : 0};
    }
    Span<const float> attention(size_t task) const {
        const float *first = ue_session_attention(handle_.get(), task);
        return {first, first ? tiles().size() : 0};
    }

  private:
    static ue_session_options plain(const SessionOptions &given, Decoder *decoder,
                                    ue_colour &colour) {
        ue_session_options options{};
        options.struct_size = sizeof options;
        options.width = given.width;
        options.height = given.height;
        options.um_px = given.um_px;
        options.max_tiles = given.max_tiles;
        options.memory = given.memory;
        options.decode = *decoder ? decode : nullptr;
        options.decoder = decoder;
        options.spool = detail::text_if_any(given.spool);
        options.name = detail::text_if_any(given.name);
        options.path = detail::text_if_any(given.path);
        options.um_px_source = detail::text_if_any(given.um_px_source);
        options.sha256 = detail::text_if_any(given.sha256);
        if (given.colour) {
            colour = plain(*given.colour);
            options.colour = &colour;
        }
        return options;
    }
    static ue_colour plain(const Colour &given) {
        ue_colour colour{};
        colour.struct_size = sizeof colour;
        colour.mode = detail::text(given.mode);
        colour.warning = detail::text_if_any(given.warning);
        for (size_t k = 0; k < given.matrix.size(); k++)
            colour.matrix[k] = given.matrix[k];
        return colour;
    }
    static ue_status decode(void *self, const void *bytes, size_t size, uint8_t *rgb,
                            size_t side) noexcept {
        const Decoder &decoder = *static_cast<const Decoder *>(self);
        return detail::guarded(UE_BAD_FILE, [&] { decoder(bytes, size, rgb, side); });
    }
    static void told(ue_status status) {
        detail::check(status, status ? ue_session_error() : "");
    }
    static bool unless_busy(ue_status status) {
        if (status != UE_BUSY)
            told(status);
        return status == UE_OK;
    }
    static const char *finished(const char *text) {
        if (!text)
            throw Error(UE_BUSY, "there is no result yet; finish the session first");
        return text;
    }
    ue_pixels packed(Span<const unsigned char> rgb) const {
        const size_t side = info_.tile_px;
        if (rgb.size() != 3 * side * side)
            throw Error(UE_BAD_TILE, "a tile has " + std::to_string(3 * side * side) +
                                         " bytes here, and this one " + std::to_string(rgb.size()));
        return {rgb.data(), static_cast<ptrdiff_t>(3 * side), 3, 1};
    }

    ue_bundle_info info_;
    std::shared_ptr<ue_session> handle_;
};

} // namespace unicas_edge

#endif
