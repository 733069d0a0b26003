# The colour fit of csrc/colour, included by _native.pyx.


cdef class ColourSample:
    cdef ue_colour_sample *handle

    def __cinit__(self):
        if ue_colour_open(0, &self.handle) != UE_OK:
            raise MemoryError("a sample of pixels")

    def __dealloc__(self):
        ue_colour_close(self.handle)

    cdef int let(self, ue_status status) except -1:
        text = (<bytes>ue_colour_error(self.handle)).decode("utf-8", "replace")
        if status == UE_NO_MEMORY:
            raise MemoryError(text)
        if status != UE_OK:
            raise ValueError(text)
        return 0

    def add(self, const uint8_t[:, :, :] pixels not None, size_t step) -> None:
        cdef ue_status status
        cdef size_t height = pixels.shape[0], width = pixels.shape[1]
        must_be([pixels.shape[2]], [3])
        if height == 0 or width == 0:
            return
        cdef ue_pixels layout = pixels_of(pixels)
        with nogil:
            status = ue_colour_add(self.handle, &layout, height, width, step)
        self.let(status)

    def fit(self, str mode not None, mean, std) -> tuple[list[float], int, str | None]:
        cdef ue_status status
        cdef ue_colour found
        cdef size_t used
        cdef double[3] to_mean = [0, 0, 0], to_std = [0, 0, 0]  # no target
        cdef bytes name = mode.encode()
        cdef const char *text = name
        if mean is not None and std is not None:
            to_mean[0], to_mean[1], to_mean[2] = mean
            to_std[0], to_std[1], to_std[2] = std
        found.struct_size = sizeof(found)
        with nogil:
            status = ue_colour_fit(self.handle, text, to_mean, to_std, &found, &used)
        self.let(status)
        warning = None if found.warning == NULL else (<bytes>found.warning).decode()
        return [found.matrix[k] for k in range(12)], used, warning


def to_lab(const uint8_t[:, :] rgb not None, double[:, ::1] lab not None) -> None:
    cdef ue_lab constants
    cdef uint8_t[3] pixel
    cdef Py_ssize_t i, c
    must_be([rgb.shape[0], rgb.shape[1], lab.shape[1]], [lab.shape[0], 3, 3])
    with nogil:
        ue_lab_set(&constants)
        for i in range(rgb.shape[0]):
            for c in range(3):
                pixel[c] = rgb[i, c]
            ue_lab_of(&constants, pixel, &lab[i, 0])


def to_rgb(const double[:, ::1] lab not None, double[:, ::1] rgb not None) -> None:
    cdef ue_lab constants
    cdef Py_ssize_t i
    must_be([rgb.shape[0], rgb.shape[1], lab.shape[1]], [lab.shape[0], 3, 3])
    with nogil:
        ue_lab_set(&constants)
        for i in range(lab.shape[0]):
            ue_lab_to_rgb(&constants, &lab[i, 0], &rgb[i, 0])
