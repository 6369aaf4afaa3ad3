/* keypart.h - up to 65,536 keys in a row, in the smallest of four shapes.
 *
 * A part holds the low 16 bits of keys that agree in all others.  What shape it
 * has follows from its keys alone:
 *
 *   FULL     all 65,536                                        no memory
 *   RUNS     at most MDN_PART_RUNS runs, 2 keys each or more   4 bytes a run
 *   ARRAY    else, at most MDN_PART_ARRAY keys                 2 bytes a key
 *   BITMAP   else                                              8,192 bytes
 *
 * The limits are so low that two parts are compared in about the time that it
 * takes to read two bitmaps, whatever their shapes.  Parts never change, and
 * sets share them: data is counted, from any thread. */
#ifndef MDN_SELECTOR_KEYPART_H
#define MDN_SELECTOR_KEYPART_H

#include "base/error.h"
#include "selector/keybits.h"

#include <stdbool.h>
#include <stdint.h>

#define MDN_PART_KEYS UINT32_C(65536)
#define MDN_PART_ARRAY 1024
#define MDN_PART_RUNS 512

typedef enum {
    MDN_PART_IS_ARRAY, /* uint16_t keys, ascending */
    MDN_PART_IS_RUNS,  /* uint16_t (first, last) pairs, ascending, apart */
    MDN_PART_IS_BITMAP,
    MDN_PART_IS_FULL,
} mdn_part_kind;

typedef struct mdn_part_data mdn_part_data;

typedef struct {
    uint64_t high;       /* keys are high << 16 | low */
    mdn_part_data *data; /* one reference; NULL if it is full */
    uint32_t count;      /* 1 .. MDN_PART_KEYS */
    uint16_t runs;       /* of MDN_PART_IS_RUNS */
    uint8_t kind;        /* a mdn_part_kind */
} mdn_part;

/* A part of ascending keys, each once, that agree in all but the low 16 bits;
 * count is 1 .. MDN_PART_KEYS.  MDN_INVALID if they are not so; MDN_NOMEM. */
mdn_status mdn_part_of_keys(const uint64_t *keys, uint32_t count, mdn_part *out,
                            mdn_error *err);

/* A part of the bits that are set; out->count is 0, and there is no part, where
 * none is.  MDN_NOMEM. */
mdn_status mdn_part_of_bits(uint64_t high, const uint64_t *words, mdn_part *out,
                            mdn_error *err);

/* A second reference to the same part. */
mdn_part mdn_part_share(const mdn_part *part);
void mdn_part_release(mdn_part *part); /* of one that is made; leaves it full */

/* Bytes of its data, with what the allocator needs. */
uint64_t mdn_part_size_bytes(const mdn_part *part);

bool mdn_part_contains(const mdn_part *part, uint16_t low);

/* How many keys two parts have in common; high is not looked at. */
uint32_t mdn_part_common(const mdn_part *a, const mdn_part *b);

/* Set the bits of a part in a bitmap. */
void mdn_part_set(const mdn_part *part, uint64_t *words);

#endif
