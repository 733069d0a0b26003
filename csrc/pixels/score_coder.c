/*
 * The length of an entropy-coded segment, ITU-T T.81, F.1.2. The bytes of a few blocks at a time
 * are written, because that takes no branch, and counted: each 0xff is followed by a stuffed 0.
 */
#include "score.h"

struct writer {
    uint64_t bits; /* the last `more` ones are no whole byte yet */
    unsigned more;
    uint8_t *next;
};

void ue_coder_start(struct ue_coder *coder) {
    ue_codes_set(&coder->codes);
    coder->before = 0;
    coder->bytes = 0;
    coder->bits = 0;
    coder->more = 0;
}

/* Eight bytes are written each time, of which the next time those follow that were no whole ones.
 */
static inline void put(struct writer *to, uint64_t code) {
    to->bits = to->bits << (code & 255) | code >> 8;
    to->more += (unsigned)(code & 255);
    const uint64_t word = to->bits << (64 - to->more);
    for (int i = 0; i < 8; i++) /* one instruction or two */
        to->next[i] = (uint8_t)(word >> (56 - 8 * i));
    to->next += to->more / 8;
    to->more %= 8;
}

static inline void put_level(struct writer *to, const struct ue_codes *codes, unsigned zeros,
                             int level) {
    const unsigned shifted = (unsigned)(level + 8);
    if ((zeros | shifted) < 16) {
        put(to, codes->small[zeros][shifted]);
        return;
    }
    for (; zeros > 15; zeros -= 16)
        put(to, codes->ac[0xf0]);
    put(to, ue_code_of(codes->ac + 16 * zeros, level));
}

static inline void put_block(struct writer *to, const struct ue_codes *codes,
                             const struct ue_blocks *blocks, size_t block, int before) {
    uint64_t nonzero = 0;
    for (int part = 0; part < UE_COEFFICIENTS / 16; part++)
        nonzero |= (uint64_t)blocks->nonzero[part][block] << 16 * part;
    put(to, ue_code_of(codes->dc, blocks->level[0][block] - before));
    unsigned last = 0;
    for (nonzero &= ~(uint64_t)1; nonzero; nonzero &= nonzero - 1) {
        const unsigned place = ue_lowest_bit(nonzero);
        put_level(to, codes, place - last - 1, blocks->level[place][block]);
        last = place;
    }
    if (last < UE_COEFFICIENTS - 1)
        put(to, codes->ac[0]);
}

void ue_coder_add(struct ue_coder *coder, const struct ue_blocks *blocks, size_t count) {
    uint8_t bytes[UE_CODED_BYTES];
    struct writer to = {coder->bits, coder->more, bytes};
    for (size_t block = 0; block < count; block++) {
        put_block(&to, &coder->codes, blocks, block, coder->before);
        coder->before = blocks->level[0][block];
    }
    const size_t whole = (size_t)(to.next - bytes);
    coder->bytes += whole;
    for (size_t i = 0; i < whole; i++)
        coder->bytes += bytes[i] == 0xff;
    coder->bits = to.bits;
    coder->more = to.more;
}

uint64_t ue_coder_end(const struct ue_coder *coder) {
    if (coder->more == 0)
        return coder->bytes;
    const uint8_t last = (uint8_t)(coder->bits << (8 - coder->more) | 0xffu >> coder->more);
    return coder->bytes + 1 + (last == 0xff);
}
