/* The spool file: places, sums, and which slots are free. */
#include "state.h"

#include <stdlib.h>
#include <string.h>

enum { HEADER_BYTES = 4096 };

/* Everything that tiles, and what became of them, depend on. No padding: it is compared whole. */
struct header {
    char magic[8];
    uint64_t byte_order;
    int64_t width, height;
    double downsample, background_share;
    uint64_t tile, crop, field, max_tiles, token_width, cellular_below, dark;
    float affine[12];
    uint8_t key[32];
};

struct slot {
    uint32_t cell, none;
    uint64_t sum;
};

/* FNV-1a, eight bytes at a time and mixed: for accidents, not against forgers. */
static uint64_t sum_of(uint64_t key, const void *bytes, size_t size) {
    const unsigned char *from = bytes;
    uint64_t sum = key ^ 0xcbf29ce484222325u;
    while (size) {
        uint64_t word = 0;
        const size_t step = size < sizeof word ? size : sizeof word;
        memcpy(&word, from, step);
        sum = (sum ^ word) * 0x100000001b3u;
        sum ^= sum >> 29;
        from += step;
        size -= step;
    }
    return sum;
}

/* ---- places ---------------------------------------------------------------------------------- */

static uint64_t entry_at(size_t cell) {
    return HEADER_BYTES + (uint64_t)cell * sizeof(struct ue_entry);
}

static uint64_t token_at(const struct ue_spool *spool, size_t cell) {
    return entry_at(spool->cells) + (uint64_t)cell * (sizeof(uint64_t) + spool->token_bytes);
}

static uint64_t slot_at(const struct ue_spool *spool, uint32_t slot) {
    return token_at(spool, spool->cells) +
           (uint64_t)(slot - 1) * (sizeof(struct slot) + spool->crop_bytes);
}

/* ---- opening --------------------------------------------------------------------------------- */

static struct header header_of(const ue_intake_options *options) {
    struct header header = {
        .magic = "UESPOOL1",
        .byte_order = 0x0102030405060708u,
        .width = options->width,
        .height = options->height,
        .downsample = options->downsample,
        .background_share = options->background_share,
        .tile = options->tile,
        .crop = options->crop,
        .field = options->field,
        .max_tiles = options->max_tiles,
        .token_width = options->token_width,
        .cellular_below = options->cellular_below,
        .dark = options->dark,
    };
    memcpy(header.affine, options->affine, sizeof header.affine);
    memcpy(header.key, options->spool_key, sizeof header.key);
    return header;
}

static ue_status agree(struct ue_spool *spool, const struct header *header, const char *path) {
    struct header found;
    spool->fresh = ue_file_size(spool->file) == 0;
    if (spool->fresh) {
        if (ue_file_write(spool->file, header, sizeof *header, 0))
            return UE_OK;
        return ue_refuse(UE_BAD_FILE, "%s: cannot be written; make room on the disk", path);
    }
    if (!ue_file_read(spool->file, &found, sizeof found, 0) ||
        memcmp(found.magic, header->magic, sizeof found.magic))
        return ue_refuse(UE_BAD_FILE, "%s: is no spool file; name another one", path);
    if (memcmp(&found, header, sizeof found))
        return ue_refuse(UE_BAD_FILE,
                         "%s: is of another slide, another bundle or other settings; "
                         "remove it, or name another one",
                         path);
    return UE_OK;
}

static bool allocate(struct ue_spool *spool) {
    spool->slot_of = calloc(spool->cells, sizeof *spool->slot_of);
    spool->line = malloc(sizeof(uint64_t) + spool->token_bytes);
    return spool->slot_of && spool->line;
}

ue_status ue_spool_open(struct ue_spool *spool, const ue_intake_options *options, size_t cells) {
    spool->file = UE_NO_FILE;
    if (!options->spool)
        return UE_OK;
    const struct header header = header_of(options);
    spool->cells = cells;
    spool->crop_bytes = options->crop * options->crop * 3;
    spool->token_bytes = options->token_width * sizeof(float);
    spool->key = sum_of(0, &header, sizeof header);
    if (!allocate(spool))
        return ue_refuse(UE_NO_MEMORY, "not enough memory for the spool");
    const char *why;
    spool->process = ue_process();
    spool->file = ue_file_open(options->spool, &why);
    if (spool->file == UE_NO_FILE)
        return ue_refuse(UE_BAD_FILE, "%s: %s; name another spool file", options->spool, why);
    return agree(spool, &header, options->spool);
}

void ue_spool_close(struct ue_spool *spool) {
    if (spool->file != UE_NO_FILE && spool->process == ue_process())
        ue_file_unlock(spool->file);
    if (spool->file != UE_NO_FILE)
        ue_file_close(spool->file);
    free(spool->slot_of);
    free(spool->free);
    free(spool->line);
    *spool = (struct ue_spool){.file = UE_NO_FILE};
}

/* ---- slots ----------------------------------------------------------------------------------- */

static bool give_back(struct ue_spool *spool, uint32_t slot) {
    if (spool->free_count == spool->free_room) {
        const size_t room = spool->free_room ? 2 * spool->free_room : 256;
        uint32_t *more = realloc(spool->free, room * sizeof *more);
        if (!more)
            return false;
        spool->free = more;
        spool->free_room = room;
    }
    spool->free[spool->free_count++] = slot;
    return true;
}

/* Without memory to note it in, the slot is lost, and the file is a crop larger. */
void ue_spool_release(struct ue_spool *spool, uint32_t cell) {
    if (spool->file == UE_NO_FILE || !spool->slot_of[cell])
        return;
    (void)give_back(spool, spool->slot_of[cell]);
    spool->slot_of[cell] = 0;
}

bool ue_spool_sweep(struct ue_spool *spool) {
    uint8_t *taken = calloc((size_t)spool->used + 1, 1);
    bool done = taken != NULL;
    for (size_t cell = 0; done && cell < spool->cells; cell++)
        taken[spool->slot_of[cell]] = 1;
    for (uint32_t slot = spool->used; done && slot > 0; slot--)
        if (!taken[slot])
            done = give_back(spool, slot);
    free(taken);
    return done;
}

/* ---- writing --------------------------------------------------------------------------------- */

static bool write_pixels(const struct ue_spool *spool, uint32_t cell, uint32_t slot,
                         const uint8_t *pixels) {
    const struct slot head = {cell, 0, sum_of(spool->key + cell, pixels, spool->crop_bytes)};
    const uint64_t at = slot_at(spool, slot);
    return ue_file_write(spool->file, pixels, spool->crop_bytes, at + sizeof head) &&
           ue_file_write(spool->file, &head, sizeof head, at);
}

static uint64_t entry_sum(const struct ue_spool *spool, uint32_t cell, struct ue_entry entry) {
    entry.sum = 0;
    return sum_of(spool->key + cell, &entry, sizeof entry);
}

/* The pixels first: an entry that is there has them. */
ue_status ue_spool_keep(struct ue_spool *spool, uint32_t cell, struct ue_entry entry,
                        const uint8_t *pixels) {
    if (spool->file == UE_NO_FILE)
        return UE_OK;
    if (pixels)
        entry.slot = spool->free_count ? spool->free[--spool->free_count] : ++spool->used;
    entry.sum = entry_sum(spool, cell, entry);
    spool->slot_of[cell] = entry.slot;
    if ((!pixels || write_pixels(spool, cell, entry.slot, pixels)) &&
        ue_file_write(spool->file, &entry, sizeof entry, entry_at(cell)))
        return UE_OK;
    ue_spool_release(spool, cell);
    return ue_refuse(UE_BAD_FILE, "the spool file cannot be written; make room on its disk");
}

/* A token that cannot be written is no loss: the pixels then stay. */
void ue_spool_encoded(struct ue_spool *spool, uint32_t cell, const float *token) {
    if (spool->file == UE_NO_FILE)
        return;
    const uint64_t sum = sum_of(spool->key + cell, token, spool->token_bytes);
    memcpy(spool->line, &sum, sizeof sum);
    memcpy(spool->line + sizeof sum, token, spool->token_bytes);
    const size_t size = sizeof sum + spool->token_bytes;
    if (ue_file_write(spool->file, spool->line, size, token_at(spool, cell)))
        ue_spool_release(spool, cell);
}

/* ---- reading --------------------------------------------------------------------------------- */

/* The end of the file is where nothing came; an entry that was torn did not come either. */
bool ue_spool_entries(const struct ue_spool *spool, size_t first, struct ue_entry *entries,
                      size_t count) {
    const int64_t size = ue_file_size(spool->file);
    const uint64_t end = entry_at(first + count), at = entry_at(first);
    const size_t whole = size < 0 || (uint64_t)size <= at ? 0
                         : (uint64_t)size >= end          ? count
                                                          : ((uint64_t)size - at) / sizeof *entries;
    memset(entries, 0, count * sizeof *entries);
    if (size < 0 || !ue_file_read(spool->file, entries, whole * sizeof *entries, at))
        return false;
    for (size_t k = 0; k < whole; k++)
        if (entries[k].status > UE_TILE_FAILED ||
            entries[k].sum != entry_sum(spool, (uint32_t)(first + k), entries[k]))
            entries[k] = (struct ue_entry){0};
    return true;
}

bool ue_spool_token(const struct ue_spool *spool, uint32_t cell, float *token) {
    const size_t size = sizeof(uint64_t) + spool->token_bytes;
    uint64_t sum;
    if (!ue_file_read(spool->file, spool->line, size, token_at(spool, cell)))
        return false;
    memcpy(&sum, spool->line, sizeof sum);
    memcpy(token, spool->line + sizeof sum, spool->token_bytes);
    return sum == sum_of(spool->key + cell, token, spool->token_bytes);
}

bool ue_spool_pixels(struct ue_spool *spool, uint32_t cell, uint32_t slot, uint8_t *pixels) {
    struct slot head;
    if (!slot || slot > UE_MAX_GRID_TILES)
        return false;
    const uint64_t at = slot_at(spool, slot);
    if (!ue_file_read(spool->file, &head, sizeof head, at) || head.cell != cell ||
        !ue_file_read(spool->file, pixels, spool->crop_bytes, at + sizeof head) ||
        head.sum != sum_of(spool->key + cell, pixels, spool->crop_bytes))
        return false;
    spool->slot_of[cell] = slot;
    spool->used = slot > spool->used ? slot : spool->used;
    return true;
}
