#include "synthetic.hpp"

#include <algorithm>

namespace {

/* At most one cell begins in each block of so many pixels, and none is wider than its radius. */
constexpr int64_t block = 72, widest = 56;
constexpr unsigned char glass[3] = {240, 238, 242}, nuclear[3] = {74, 58, 116};
constexpr unsigned char stains[3][3] = {{158, 196, 206}, {226, 160, 178}, {196, 186, 214}};

unsigned char toned(int colour, int noise) {
    return static_cast<unsigned char>(std::clamp(colour + noise, 0, 255));
}

} // namespace

Synthetic::Synthetic(int64_t slide_width, int64_t slide_height, uint64_t seed, size_t side)
    : seed_(scramble(seed)), side_(static_cast<int64_t>(side)) {
    width = slide_width;
    height = slide_height;
}

int Synthetic::noise(int64_t x, int64_t y) const {
    const uint64_t place = static_cast<uint64_t>(y) << 32 ^ static_cast<uint64_t>(x);
    return static_cast<int>(scramble(seed_ ^ place) % 13) - 6;
}

/* The cell of a block, if it has one: cells are denser in the middle of the slide. */
bool Synthetic::cell(int64_t column, int64_t row, Cell &cell) const {
    if (column < 0 || row < 0)
        return false;
    const auto place = static_cast<uint64_t>(row) << 32 ^ static_cast<uint64_t>(column);
    const uint64_t bits = scramble(seed_ + 1 + place);
    const int64_t x = column * block, y = row * block;
    const bool middle = x > width / 8 && x < width - width / 8 && y > height / 8;
    if (bits % 100 >= (middle ? 70u : 8u))
        return false;
    cell.x = x + static_cast<int64_t>(bits >> 8 & 63);
    cell.y = y + static_cast<int64_t>(bits >> 16 & 63);
    cell.radius = 24 + static_cast<int64_t>((bits >> 24) % (widest - 24));
    cell.nucleus = 6 + static_cast<int64_t>((bits >> 32) % 8);
    cell.stain = (bits >> 40) % 3;
    return true;
}

void Synthetic::draw(const Cell &cell, int64_t left, int64_t top, Bytes &rgb) const {
    const int64_t first_row = std::max<int64_t>(cell.y - cell.radius - top, 0);
    const int64_t last_row = std::min(cell.y + cell.radius - top, side_ - 1);
    const int64_t first = std::max<int64_t>(cell.x - cell.radius - left, 0);
    const int64_t last = std::min(cell.x + cell.radius - left, side_ - 1);
    for (int64_t row = first_row; row <= last_row; row++)
        for (int64_t col = first; col <= last; col++) {
            const int64_t x = left + col - cell.x, y = top + row - cell.y;
            const int64_t distance = x * x + y * y;
            if (distance > cell.radius * cell.radius)
                continue;
            const bool inner = distance <= cell.nucleus * cell.nucleus;
            const unsigned char *colour = inner ? nuclear : stains[cell.stain];
            const int tone = 2 * noise(left + col, top + row);
            for (int64_t c = 0; c < 3; c++)
                rgb[static_cast<size_t>(3 * (row * side_ + col) + c)] = toned(colour[c], tone);
        }
}

Tile Synthetic::read(int64_t x, int64_t y) const {
    Tile tile;
    tile.rgb.resize(static_cast<size_t>(3 * side_ * side_));
    size_t byte = 0;
    for (int64_t row = 0; row < side_; row++)
        for (int64_t col = 0; col < side_; col++) {
            const int tone = noise(x + col, y + row);
            for (const unsigned char colour : glass)
                tile.rgb[byte++] = toned(colour, tone);
        }
    Cell found{};
    for (int64_t row = (y - widest) / block - 1; row <= (y + side_ + widest) / block; row++)
        for (int64_t column = (x - widest) / block - 1; column <= (x + side_ + widest) / block;
             column++)
            if (cell(column, row, found))
                draw(found, x, y, tile.rgb);
    return tile;
}
