/* What a ue_bundle holds; after it was opened nothing of it changes but what the watch knows. */
#ifndef UE_BUNDLE_STATE_H
#define UE_BUNDLE_STATE_H

#include "manifest.h"
#include "unicas_edge_bundle.h"
#include "watch.h"

struct ue_bundle {
    struct ue_error error;
    bool usable;
    char *root;                 /* no link in it */
    struct ue_shown shown;      /* the folder, as the caller named it */
    char sha256[UE_SHA256_HEX]; /* of bundle.json */
    struct ue_kept text;        /* of bundle.json, which the manifest points into */
    struct ue_manifest manifest;
    struct ue_kept aggregator; /* the bytes that were hashed */
    struct ue_watch *watch;    /* bundle.json, then the files as the manifest lists them */
};

#endif
