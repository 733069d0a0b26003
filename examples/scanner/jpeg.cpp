#include "jpeg.hpp"

#include <stdexcept>

#ifdef WITH_JPEG

#include <csetjmp>
#include <cstdio>

#include <jpeglib.h>

namespace {

/* libjpeg is C: no exception may pass through it, so it jumps back first. */
struct Errors {
    jpeg_error_mgr manager;
    std::jmp_buf back;
    char sentence[JMSG_LENGTH_MAX];
};

void jump(j_common_ptr common) {
    auto *errors = reinterpret_cast<Errors *>(common->err);
    common->err->format_message(common, errors->sentence);
    std::longjmp(errors->back, 1);
}

/* A warning is damage, too: libjpeg would make up the missing pixels. */
void warn(j_common_ptr common, int level) {
    if (level < 0)
        jump(common);
}

/* No object with a destructor may live here, as longjmp leaves it. */
bool decode(jpeg_decompress_struct &jpeg, Errors &errors, const void *bytes, size_t size,
            unsigned char *rgb, size_t side) {
    if (setjmp(errors.back))
        return false;
    jpeg_create_decompress(&jpeg);
    jpeg_mem_src(&jpeg, static_cast<const unsigned char *>(bytes),
                 static_cast<unsigned long>(size));
    jpeg_read_header(&jpeg, TRUE);
    if (jpeg.image_width != side || jpeg.image_height != side) {
        std::snprintf(errors.sentence, sizeof errors.sentence, "the JPEG has another size");
        return false;
    }
    jpeg.out_color_space = JCS_RGB;
    jpeg_start_decompress(&jpeg);
    while (jpeg.output_scanline < side) {
        JSAMPROW row = rgb + 3 * side * jpeg.output_scanline;
        jpeg_read_scanlines(&jpeg, &row, 1);
    }
    jpeg_finish_decompress(&jpeg);
    return true;
}

} // namespace

void decode_jpeg(const void *bytes, size_t size, unsigned char *rgb, size_t side) {
    jpeg_decompress_struct jpeg{};
    Errors errors{};
    jpeg.err = jpeg_std_error(&errors.manager);
    errors.manager.error_exit = jump;
    errors.manager.emit_message = warn;
    const bool done = decode(jpeg, errors, bytes, size, rgb, side);
    jpeg_destroy_decompress(&jpeg);
    if (!done)
        throw std::runtime_error(errors.sentence);
}

#else

void decode_jpeg(const void *, size_t, unsigned char *, size_t) {
    throw std::runtime_error("this scanner was built without libjpeg");
}

#endif
