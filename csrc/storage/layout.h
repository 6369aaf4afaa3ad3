/* layout.h - where every byte of a dataset's segments lies.
 *
 * The layout follows from the schema and the header of the manifest; nothing
 * here touches a file.  docs/format.md tells the same with pictures.
 *
 * A segment holds the records of 2^segment_shift keys.  Each kind of content
 * is cut into blocks of 2^block_shift rows, numbered through the whole dataset
 * (key >> block_shift), and each block has a checksum:
 *
 *     seed  = crc32c(uuid, kind, block number)
 *     check = crc32c continued from seed over the rows of the block
 *
 * so that a block which is whole but in the wrong place does not pass. */
#ifndef MDN_STORAGE_LAYOUT_H
#define MDN_STORAGE_LAYOUT_H

#include "storage/schema.h"
#include "storage/view.h"

#include <stdbool.h>
#include <stdint.h>

#define MDN_UUID_SIZE 16
#define MDN_SHIFT_MIN 13
#define MDN_SHIFT_MAX 30
#define MDN_COUNT_MAX (UINT64_C(1) << 48) /* samples of a dataset */
#define MDN_COLUMN_BLOCK_SHIFT 12         /* rows of a column block: 4096 */
#define MDN_COL_ALIGN UINT64_C(65536)     /* the largest page size in use */

typedef enum {
    MDN_RECORDS,
    MDN_TIMESTAMPS,
    MDN_LABELS,
    MDN_OFFSETS, /* end of each record in its segment; only with bytes fields */
} mdn_kind;
#define MDN_KINDS 4

typedef struct {
    uint8_t uuid[MDN_UUID_SIZE];
    mdn_time_unit time_unit;
    uint32_t segment_shift;
    uint32_t block_shift[MDN_KINDS];
    bool has[MDN_KINDS];  /* records and timestamps always */
    bool compressed;      /* payloads may be zstd frames */
    uint64_t record_size; /* head_size of the schema */

    /* The .col file: header, columns, checksums. */
    uint64_t column_at[MDN_KINDS]; /* not of records */
    uint64_t column_size;          /* bytes of one column */
    uint64_t checksums_at, checksums_size;
    uint64_t checksum_of[MDN_KINDS]; /* first one, from checksums_at */
    uint64_t col_size;               /* of the whole file */
} mdn_layout;

/* How far a journal reaches (journal.h): all zero before its first entry. */
#define MDN_CHECK_SIZE 16
typedef struct {
    uint64_t size_bytes;
    uint8_t check[MDN_CHECK_SIZE]; /* half of the digest of all before */
} mdn_mark;

typedef enum { MDN_EVENTS, MDN_SOURCES } mdn_journal_kind;
#define MDN_JOURNALS 2
#define MDN_ENTRY_MAX (UINT64_C(1) << 32) /* bytes of a payload */

/* How far a dataset reaches: what one commit record says. */
typedef struct {
    uint64_t count;          /* samples */
    uint64_t segment_bytes;  /* records of the last, not full segment */
    uint32_t crc[MDN_KINDS]; /* of the last, not full block; 0 if none */
    mdn_mark journal[MDN_JOURNALS];
} mdn_tail;

/* segment_shift 0 chooses one.  MDN_INVALID for a shift out of range. */
mdn_status mdn_layout_init(mdn_layout *layout, const mdn_schema *schema,
                           bool has_labels, uint32_t segment_shift,
                           mdn_error *err);

/* The checksum of no rows of this block, to be continued. */
uint32_t mdn_layout_seed(const mdn_layout *layout, mdn_kind kind,
                         uint64_t block);
/* Where in the .col file the checksum of this block stands. */
uint64_t mdn_layout_checksum_at(const mdn_layout *layout, mdn_kind kind,
                                uint64_t block);
/* <directory>/NNNNNN.<suffix>, or NNNNNN-G.<suffix> for generation G > 0;
 * malloc'd; NULL without memory. */
char *mdn_layout_path(const char *directory, uint64_t segment,
                      uint64_t generation, const char *suffix);
const char *mdn_kind_name(mdn_kind kind);

static inline uint64_t
mdn_layout_row(const mdn_layout *layout, uint64_t key)
{
    return key & ((UINT64_C(1) << layout->segment_shift) - 1);
}

#endif
