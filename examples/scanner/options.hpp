/* What the scanner is told to do, on its command line. */
#ifndef SCANNER_OPTIONS_HPP
#define SCANNER_OPTIONS_HPP

#include <cstdint>
#include <limits>
#include <optional>
#include <stdexcept>
#include <string>

#include <unicas_edge.hpp>

extern const char *const usage_text;

constexpr size_t never = std::numeric_limits<size_t>::max();

struct Options {
    std::string bundle;
    unicas_edge::Engine engine;
    std::string tiles; /* a folder; empty: a synthetic slide */
    std::string output, save, spool;
    std::optional<unicas_edge::Colour> colour;
    bool fit_colour = false;             /* on what lies at the focus points */
    int64_t width = 8192, height = 8192; /* of the synthetic slide */
    uint64_t seed = 1;
    size_t max_tiles = 0;
    double rate = 300;                      /* tiles a second; 0: as fast as they are taken */
    uint64_t lost = 0, late = 0, twice = 0; /* of a thousand tiles */
    double pause = 0;                       /* seconds */
    size_t pause_after = never, cancel_after = never, crash_after = never;
};

/* The command line is wrong. */
class Usage : public std::runtime_error {
  public:
    using std::runtime_error::runtime_error;
};

/* Throws Usage. */
Options parse(int count, char **words);

#endif
