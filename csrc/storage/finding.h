/* finding.h - what is wrong with the files of a dataset, one by one. */
#ifndef MDN_STORAGE_FINDING_H
#define MDN_STORAGE_FINDING_H

#include "storage/layout.h"

typedef enum {
    MDN_FOUND_HEADER,    /* of the manifest, a journal or a .col file */
    MDN_FOUND_REACH,     /* number: of the slot */
    MDN_FOUND_COMMIT,    /* numbers: of the commits */
    MDN_FOUND_ENTRY,     /* of a journal; number: of the first bad one */
    MDN_FOUND_MISSING,   /* a file */
    MDN_FOUND_TRUNCATED, /* a file */
    MDN_FOUND_BLOCK,     /* kind, numbers: of the blocks */
    MDN_FOUND_LINK,      /* a linked file is not what it was */
    MDN_FOUND_STRAY,     /* a file that is no part of the dataset */
} mdn_found;

typedef struct {
    mdn_found what;
    const char *file; /* its name in the directory; a path, if it is linked */
    mdn_kind kind;    /* of MDN_FOUND_BLOCK */
    uint64_t number, number_count;
    uint64_t first_key, key_count; /* samples that are concerned, or 0 */
    const char *text;
} mdn_finding;

const char *mdn_found_name(mdn_found what);

#endif
