/* The decoder of the scanner's JPEG tiles: libjpeg, where the program was built with it. */
#ifndef SCANNER_JPEG_HPP
#define SCANNER_JPEG_HPP

#include <cstddef>

/* Fill `rgb` [side][side][3]; throws std::runtime_error for anything else than such a JPEG. */
void decode_jpeg(const void *bytes, size_t size, unsigned char *rgb, size_t side);

#endif
