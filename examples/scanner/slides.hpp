/* Where tiles come from: a folder of files, or a drawing. */
#ifndef SCANNER_SLIDES_HPP
#define SCANNER_SLIDES_HPP

#include <cstdint>
#include <filesystem>
#include <memory>
#include <vector>

#include "options.hpp"

using Bytes = std::vector<unsigned char>;

/* What the camera gives: pixels or a JPEG, or neither where it left the tile out. */
struct Tile {
    Bytes rgb; /* [side][side][3] */
    Bytes jpeg;
};

class Slide {
  public:
    int64_t width = 0, height = 0; /* in level-0 pixels */

    virtual ~Slide() = default;
    /* The tile whose top left corner is (x, y). Throws why it cannot be read. */
    virtual Tile read(int64_t x, int64_t y) const = 0;
};

/* The slide that the options name, in tiles of `side` pixels. */
std::unique_ptr<Slide> open_slide(const Options &options, size_t side);

/* Write pixels where a folder's slide would read them. */
void save_tile(const std::filesystem::path &folder, int64_t x, int64_t y, size_t side,
               const Bytes &rgb);

/* Bits that look random and are the same everywhere. */
constexpr uint64_t scramble(uint64_t value) {
    value += 0x9e3779b97f4a7c15u;
    value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9u;
    value = (value ^ (value >> 27)) * 0x94d049bb133111ebu;
    return value ^ (value >> 31);
}

#endif
