/*
 * A scanner, simulated: tiles of a folder or of a drawn slide are pushed in the order of its stage,
 * some late, some twice, some never. Prints the slide's result as JSON, and on standard error what
 * became of the tiles and how long it took.
 *
 *     scanner BUNDLE [OPTION VALUE]...
 *
 * Exit codes: 0 success, 1 failure, 2 usage, 3 cancelled.
 */
#include <algorithm>
#include <cstdio>
#include <fstream>
#include <iostream>

#include "jpeg.hpp"
#include "scan.hpp"

namespace {

/* The pixels of a tile, none where it was left out or cannot be read. */
Bytes seen(const Slide &slide, int64_t x, int64_t y, size_t side) {
    try {
        Tile tile = slide.read(x, y);
        if (!tile.jpeg.empty()) {
            tile.rgb.resize(3 * side * side);
            decode_jpeg(tile.jpeg.data(), tile.jpeg.size(), tile.rgb.data(), side);
        }
        return tile.rgb;
    } catch (const std::exception &) {
        return {};
    }
}

/* A scanner sees its focus points before it scans: here 8 tiles in a row, 4 in a column. */
unicas_edge::Colour fit_colour(const unicas_edge::Bundle &bundle, const Slide &slide, size_t side) {
    unicas_edge::ColourSample sample;
    const auto step = static_cast<int64_t>(side);
    for (int64_t point = 0; point < 32; point++) {
        const int64_t x = slide.width * (point % 8) / 8 / step * step;
        const int64_t y = slide.height * (point / 8) / 4 / step * step;
        const Bytes rgb = seen(slide, x, y, side);
        if (!rgb.empty())
            sample.add(rgb, side);
    }
    return sample.fit(bundle);
}

unicas_edge::SessionOptions session_options(const Options &options, const Slide &slide,
                                            double um_px) {
    unicas_edge::SessionOptions given;
    given.width = slide.width;
    given.height = slide.height;
    given.um_px = um_px;
    given.max_tiles = options.max_tiles;
    given.colour = options.colour;
    given.decoder = decode_jpeg;
    given.spool = options.spool;
    return given;
}

double percentile(std::vector<double> values, double share) {
    if (values.empty())
        return 0;
    std::sort(values.begin(), values.end());
    const auto last = static_cast<double>(values.size() - 1);
    return values[static_cast<size_t>(share * last + 0.5)];
}

void print(const Report &report, double to_result) {
    std::fprintf(stderr,
                 "tiles: %zu pushed, %zu left out, %zu unreadable, %zu lost, %zu late, %zu refused "
                 "as they came twice, %zu from the spool\n",
                 report.pushed, report.left_out, report.unreadable, report.lost, report.late,
                 report.refused, report.resumed);
    std::fprintf(stderr, "push: median %.1f us, p99 %.1f us, longest %.1f us\n",
                 1e6 * percentile(report.push_seconds, 0.5),
                 1e6 * percentile(report.push_seconds, 0.99),
                 1e6 * percentile(report.push_seconds, 1));
    std::fprintf(stderr, "behind the stage at most: %.1f ms\n", 1e3 * report.behind);
    std::fprintf(stderr, "last tile to result: %.1f ms\n", 1e3 * to_result);
}

void write_result(const std::string &path, const std::string &json) {
    std::ofstream file;
    if (!path.empty())
        file.open(path, std::ios::binary);
    std::ostream &out = path.empty() ? std::cout : file;
    if (!(out << json << '\n').flush())
        throw std::runtime_error(path + ": the result cannot be written");
}

/* Scan one slide, and store its result. */
void screen(const Options &options) {
    const unicas_edge::Bundle bundle(options.bundle);
    const ue_bundle_info info = bundle.info();
    const unicas_edge::Encoder encoder(bundle, options.engine);
    const unicas_edge::Screener screener(bundle, encoder, options.engine.threads);
    const std::unique_ptr<Slide> slide = open_slide(options, info.tile_px);
    unicas_edge::SessionOptions given = session_options(options, *slide, info.um_px);
    if (options.fit_colour)
        given.colour = fit_colour(bundle, *slide, info.tile_px);
    unicas_edge::Session session(screener, given);
    Report report = Scan(session, *slide, options, info.tile_px).run();
    session.finish();
    const std::chrono::duration<double> to_result = Clock::now() - report.last_tile;
    write_result(options.output, session.result_json());
    print(report, to_result.count());
}

int run(const Options &options) {
    try {
        screen(options);
    } catch (const unicas_edge::Error &error) {
        if (error.status() != UE_ENDED)
            throw;
        std::cerr << "scanner: cancelled; there is no result\n";
        return 3;
    }
    if (!options.spool.empty()) /* what it keeps is stored: the session is closed */
        std::filesystem::remove(std::filesystem::u8path(options.spool));
    return 0;
}

} // namespace

int main(int count, char **words) {
    try {
        return run(parse(count, words));
    } catch (const Usage &error) {
        std::cerr << "scanner: " << error.what() << '\n' << usage_text;
        return 2;
    } catch (const std::exception &error) {
        std::cerr << "scanner: " << error.what() << '\n';
        return 1;
    }
}
