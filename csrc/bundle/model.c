#include "model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "encoders/named_files.h"
#include "files.h"

static const uint64_t most_weights_bytes = (uint64_t)256 << 20;

/* A model, and whose it is, while its names are gathered. */
struct reading {
    const ue_bundle *bundle;
    struct ue_json_text file;
    struct ue_model *model;
};

/* ---- the files of a bundle ------------------------------------------------------------------- */

static size_t number_of(const ue_bundle *bundle, const struct ue_listed_file *file) {
    const struct ue_listed_file *files = bundle->manifest.files.items;
    return 1 + (size_t)(file - files); /* as the watch has it, bundle.json being the first */
}

static const struct ue_listed_file *listed(const ue_bundle *bundle, struct ue_json_text name) {
    const struct ue_listed_file *files = bundle->manifest.files.items;
    for (size_t i = 0; i < bundle->manifest.files.count; i++)
        if (ue_same_text(files[i].name, name))
            return &files[i];
    return NULL;
}

static ue_status read_listed(const ue_bundle *bundle, const struct ue_listed_file *file,
                             struct ue_kept *kept) {
    struct ue_error error = {UE_OK, ""};
    struct ue_checked found;
    const ue_status status = ue_bundle_read(bundle, file, 0, true, &found, &error);
    *kept = found.kept;
    return status ? ue_encoder_fail(status, "%s", error.text) : UE_OK;
}

/* ---- the names in a model -------------------------------------------------------------------- */

static ue_status refuse_foreign(const struct reading *reading, const char *name, size_t length) {
    return ue_encoder_fail(UE_BAD_MODEL,
                           "%s: refers to '%s', which is not a file of the bundle; list it under "
                           "files, or export the model in one file",
                           reading->model->path, ue_show(name, length).text);
}

/*
 * The listed file that a name in the model leads to, from the model's folder; NULL: none. Parts
 * that lead nowhere (".", "") are passed over; no listed name has them, nor "..".
 */
static const struct ue_listed_file *find_beside(const struct reading *reading, const char *name,
                                                size_t length) {
    char path[512];
    size_t used = 0, folder = reading->file.length;
    while (folder && reading->file.bytes[folder - 1] != '/')
        folder--;
    if (!length || *name == '/' || folder + length >= sizeof path)
        return NULL;
    memcpy(path, reading->file.bytes, used = folder);
    for (size_t at = 0; at < length;) {
        const char *slash = memchr(name + at, '/', length - at);
        const size_t part = slash ? (size_t)(slash - (name + at)) : length - at;
        if (part && !(part == 1 && name[at] == '.')) {
            if (used > folder)
                path[used++] = '/';
            memcpy(path + used, name + at, part);
            used += part;
        }
        at += part + 1;
    }
    return listed(reading->bundle, (struct ue_json_text){path, used});
}

static char *copy_of(const char *name, size_t length) {
    char *copy = malloc(length + 1);
    if (copy) {
        memcpy(copy, name, length);
        copy[length] = '\0';
    }
    return copy;
}

static ue_status add_name(void *self, const char *name, size_t length) {
    const struct reading *reading = self;
    struct ue_model *model = reading->model;
    for (size_t k = 0; k < model->count; k++)
        if (strlen(model->beside[k].name) == length && !memcmp(model->beside[k].name, name, length))
            return UE_OK;
    const struct ue_listed_file *file = find_beside(reading, name, length);
    if (!file)
        return refuse_foreign(reading, name, length);
    if (model->count == UE_MOST_BESIDE)
        return ue_encoder_fail(UE_BAD_MODEL,
                               "%s: refers to more than %d files; export it in one file",
                               model->path, UE_MOST_BESIDE);
    char *copy = copy_of(name, length);
    if (!copy)
        return ue_encoder_fail(UE_NO_MEMORY, "not enough memory for the encoder");
    model->files[model->count] = file;
    model->beside[model->count++] = (struct ue_encoder_file){copy, NULL, 0};
    return UE_OK;
}

static bool ends_in(struct ue_json_text text, const char *end) {
    const size_t tail = strlen(end);
    return text.length >= tail && !memcmp(text.bytes + text.length - tail, end, tail);
}

/* Of an IR, an .xml, the weights are in the .bin of its name. */
static ue_status add_bin(const struct reading *reading) {
    const struct ue_json_text file = reading->file;
    const char *slash = strrchr(file.bytes, '/'), *name = slash ? slash + 1 : file.bytes;
    char bin[256];
    const int stem = (int)strlen(name) - 4;
    if (reading->model->graph.bytes[0] != '<')
        return ue_encoder_fail(UE_BAD_MODEL, "%s: is no .xml; export the form again",
                               reading->model->path);
    snprintf(bin, sizeof bin, "%.*s.bin", stem, name);
    return add_name((void *)(uintptr_t)reading, bin, strlen(bin));
}

/* Formats that OpenVINO knows by other names might bring files along. */
static ue_status find_names(struct reading *reading, enum ue_backend backend) {
    struct ue_model *model = reading->model;
    if (backend == UE_OPENVINO && ends_in(reading->file, ".xml"))
        return add_bin(reading);
    if (backend == UE_OPENVINO && !ends_in(reading->file, ".onnx"))
        return ue_encoder_fail(UE_BAD_MODEL, "%s: is neither .onnx nor .xml; export the form again",
                               model->path);
    return ue_named_files_see(model->graph.bytes, model->graph.size, model->path, add_name,
                              reading);
}

/* ---- where the weights are read -------------------------------------------------------------- */

/* OpenVINO knows the weights beside an ONNX file by its path alone; TensorRT reads a model anew. */
static bool takes_weights(const struct reading *reading, enum ue_backend backend) {
    if (backend == UE_OPENVINO)
        return ends_in(reading->file, ".xml");
    return backend != UE_ONNXRUNTIME_TENSORRT;
}

static bool fit_into_memory(const struct reading *reading) {
    const ue_bundle *bundle = reading->bundle;
    uint64_t left = most_weights_bytes;
    for (size_t k = 0; k < reading->model->count; k++) {
        const uint64_t size =
            ue_watch_size(bundle->watch, number_of(bundle, reading->model->files[k]));
        if (size > left)
            return false;
        left -= size;
    }
    return true;
}

static void leave_in_place(const ue_bundle *bundle, struct ue_model *model,
                           struct ue_json_text file) {
    ue_watch_in_place(bundle->watch, number_of(bundle, listed(bundle, file)));
    for (size_t k = 0; k < model->count; k++)
        ue_watch_in_place(bundle->watch, number_of(bundle, model->files[k]));
    model->in_place = true;
    free(model->graph.bytes);
    model->graph = (struct ue_kept){NULL, 0};
}

static ue_status read_weights(const ue_bundle *bundle, struct ue_model *model) {
    for (size_t k = 0; k < model->count; k++) {
        struct ue_kept kept;
        const ue_status status = read_listed(bundle, model->files[k], &kept);
        if (status)
            return status;
        model->beside[k].bytes = kept.bytes;
        model->beside[k].size = kept.size;
    }
    return UE_OK;
}

/* ---- the model ------------------------------------------------------------------------------- */

ue_status ue_model_read(const ue_bundle *bundle, struct ue_json_text file, enum ue_backend backend,
                        struct ue_model *model) {
    struct reading reading = {bundle, file, model};
    *model = (struct ue_model){.path = ue_bundle_path(bundle, file.bytes)};
    if (!model->path)
        return ue_encoder_fail(UE_NO_MEMORY, "not enough memory for the encoder");
    ue_status status = read_listed(bundle, listed(bundle, file), &model->graph);
    if (!status)
        status = find_names(&reading, backend);
    if (status || !model->count || (takes_weights(&reading, backend) && fit_into_memory(&reading)))
        return status ? status : read_weights(bundle, model);
    leave_in_place(bundle, model, file);
    return UE_OK;
}

void ue_model_free(struct ue_model *model) {
    for (size_t k = 0; k < model->count; k++) {
        free((void *)(uintptr_t)model->beside[k].name);
        free((void *)(uintptr_t)model->beside[k].bytes);
    }
    free(model->graph.bytes);
    free(model->path);
    *model = (struct ue_model){.path = NULL};
}

ue_status ue_model_check(const ue_bundle *bundle, const struct ue_model *model) {
    const ue_status status = model->in_place ? ue_watch_check(bundle->watch) : UE_OK;
    return status ? ue_encoder_fail(status, "%s", ue_watch_changed(bundle->watch)) : UE_OK;
}
