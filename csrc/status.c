/* What the library says of itself: texts of ue_status, its version. */
#include "unicas_edge.h"

const char *ue_status_text(ue_status status) {
    switch (status) {
    case UE_OK:
        return "success";
    case UE_NULL_POINTER:
        return "a pointer is NULL";
    case UE_BAD_SIZE:
        return "height and width must be 1 to 65535";
    case UE_BAD_STRIDE:
        return "planes must be at least height * width elements apart";
    case UE_BAD_AFFINE:
        return "the affine map must be finite, with coefficients inside +-1e30";
    case UE_BAD_DTYPE:
        return "the dtype must be float32, float16 or uint8";
    case UE_MISALIGNED:
        return "the output is not aligned to its element size";
    case UE_NO_SUCH_VARIANT:
        return "no variant of that name runs on this processor";
    case UE_NO_MEMORY:
        return "not enough memory";
    case UE_BAD_OPTIONS:
        return "struct_size or a field of the options is not possible";
    case UE_BAD_FILE:
        return "not a readable safetensors file";
    case UE_BAD_CONFIG:
        return "the configuration in the metadata is missing or not possible";
    case UE_BAD_WEIGHTS:
        return "the tensors do not fit the configuration";
    case UE_BAD_TOKENS:
        return "no tokens, a token that is not finite, or one that was never pushed";
    case UE_OVERFLOW:
        return "the logits are not finite";
    case UE_BAD_TILE:
        return "no tile of the grid, one that came before, or no score";
    case UE_BUSY:
        return "what is waited for has not happened yet";
    case UE_ENDED:
        return "the session is finished, cancelled, or another process's";
    case UE_NO_RUNTIME:
        return "the encoder's runtime is not installed, or lacks what is needed";
    case UE_BAD_MODEL:
        return "the encoder's model cannot be loaded, or is not what was expected";
    case UE_RUN_FAILED:
        return "the encoder's runtime failed";
    case UE_BAD_SLIDE:
        return "the pixels of the slide contradict what is stated of it";
    case UE_BAD_BUNDLE:
        return "the bundle's manifest breaks a rule, or its files are not those named";
    }
    return "unknown status";
}

/* unicas_edge/__init__.py has the version; CMakeLists.txt and setup.py read it there. */
#ifndef UE_VERSION
#define UE_VERSION 0
#endif

uint32_t ue_version(void) {
    return UE_VERSION;
}
