/* reserve.h - address space without memory, into which files are mapped. */
#ifndef MDN_STORAGE_RESERVE_H
#define MDN_STORAGE_RESERVE_H

#include "base/error.h"

#include <stdint.h>

/* A list of the pieces taken, to be returned together. */
typedef struct mdn_range {
    struct mdn_range *next;
    void *base;
    uint64_t size;
} mdn_range;

/* Take size bytes of addresses, aligned to 2 MiB, and add them to the list.
 * Nothing may be read there before something is mapped. */
mdn_status mdn_reserve_add(mdn_range **list, uint64_t size, uint8_t **out,
                           mdn_error *err);
/* Return them all, with what was mapped there; accepts NULL. */
void mdn_reserve_free(mdn_range *list);

/* Memory, by the huge page where the kernel has them: size bytes, both aligned
 * to 2 MiB. */
mdn_status mdn_reserve_memory(uint64_t size, uint8_t **out, mdn_error *err);
void mdn_reserve_return(uint8_t *memory, uint64_t size);
/* Put it, read-only, where something is mapped in a range that was taken, which
 * reaches up to the end of its last huge page. */
mdn_status mdn_reserve_replace(uint8_t *at, uint8_t *memory, uint64_t size,
                               mdn_error *err);

#endif
