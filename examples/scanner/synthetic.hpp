/* A drawn slide: the same pixels for the same seed, on every machine. */
#ifndef SCANNER_SYNTHETIC_HPP
#define SCANNER_SYNTHETIC_HPP

#include "slides.hpp"

/* Pale glass with noise, and cells: discs of cytoplasm with a dark nucleus. Whole numbers alone. */
class Synthetic : public Slide {
  public:
    Synthetic(int64_t slide_width, int64_t slide_height, uint64_t seed, size_t side);
    Tile read(int64_t x, int64_t y) const override;

  private:
    struct Cell {
        int64_t x, y, radius, nucleus;
        size_t stain;
    };
    bool cell(int64_t column, int64_t row, Cell &cell) const;
    void draw(const Cell &cell, int64_t left, int64_t top, Bytes &rgb) const;
    int noise(int64_t x, int64_t y) const;

    uint64_t seed_;
    int64_t side_;
};

#endif
