/* A matrix as it is stored. */
#ifndef UE_MATRIX_H
#define UE_MATRIX_H

#include "system/half.h"

/* How an expert's matrix is stored; it is always multiplied in float32. */
enum ue_storage { UE_STORED_F32, UE_STORED_F16, UE_STORED_BF16, UE_STORED_I8, UE_STORAGES };

/* Row-major, rows adjacent. I8: row r stands for scale[r] * data[r][...], scale[r] > 0. */
struct ue_matrix {
    const void *data;   /* aligned to its element */
    const float *scale; /* of UE_STORED_I8, one a row; NULL otherwise */
    enum ue_storage storage;
};

#endif
