/* content.h - a whole file, or a member of an archive, as one value.
 *
 *   field of type bytes        the content as it is, up to 2^32 - 1 bytes
 *   field of one number        the number as decimal text, blanks around it
 *   field of several numbers   exactly their bytes, little-endian, in C order
 *   label, timestamp           an integer as decimal text */
#ifndef MDN_INGEST_CONTENT_H
#define MDN_INGEST_CONTENT_H

#include "ingest/block.h"
#include "ingest/input.h"

#define MDN_CONTENT_MAX UINT64_C(0xffffffff) /* bytes of a field */
#define MDN_CONTENT_TEXT_MAX 1024            /* of a number */

/* Where content lies, and how messages name it. */
typedef struct {
    const mdn_input *input;
    uint64_t at, size;
    const char *what; /* "a.tar: 0001.jpg at byte 512" */
} mdn_content;

/* Into field `field` of sample block->count, for which there is room.
 * MDN_INVALID names content and value. */
mdn_status mdn_content_field(const mdn_content *content, mdn_block *block,
                             const mdn_schema *schema, uint32_t field,
                             mdn_error *err);
/* The integer that the content is. */
mdn_status mdn_content_integer(const mdn_content *content, const char *role,
                               int64_t *out, mdn_error *err);

/* Nanoseconds in a coarser unit (of so many nanoseconds), rounded down. */
static inline int64_t
mdn_time_in_units(int64_t ns, int64_t unit_ns)
{
    return ns / unit_ns - (ns % unit_ns < 0);
}

#endif
