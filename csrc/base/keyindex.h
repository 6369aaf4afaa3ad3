/* keyindex.h - from ids that users gave to keys.
 *
 * A table in memory: any 64-bit numbers, each with one key.  An id that comes
 * again gets the new key.  Answers depend on what was added and in which order,
 * never on the number of threads.
 *
 *     mdn_keyindex_new     empty
 *     mdn_keyindex_add     more ids; by one thread at a time
 *     mdn_keyindex_find    the keys of ids; by any number of threads
 *     mdn_keyindex_free
 *
 * Whoever adds waits for those who look up, and they for him.  After a fork the
 * child has its own copy, which works unless somebody was adding just then. */
#ifndef MDN_BASE_KEYINDEX_H
#define MDN_BASE_KEYINDEX_H

#include "base/error.h"

#include <stdint.h>

#define MDN_KEYINDEX_KEY_MAX ((UINT64_C(1) << 38) - 2)

typedef struct mdn_keyindex mdn_keyindex;

mdn_status mdn_keyindex_new(mdn_keyindex **out, mdn_error *err);
void mdn_keyindex_free(mdn_keyindex *index); /* accepts NULL */

uint64_t mdn_keyindex_count(const mdn_keyindex *index); /* different ids */
uint64_t mdn_keyindex_size_bytes(const mdn_keyindex *index);

/* keys[i] becomes the key of ids[i]; keys NULL: those that follow the largest
 * key so far, from 0 on.  The calling thread and up to threads - 1 helpers.
 * MDN_INVALID names a key that is too large; MDN_NOMEM; nothing was added. */
mdn_status mdn_keyindex_add(mdn_keyindex *index, const uint64_t *ids,
                            const uint64_t *keys, uint64_t count,
                            uint32_t threads, mdn_error *err);

/* keys[i] = the key of ids[i].  Where there is none: *missing; or, if that is
 * NULL, MDN_NO_KEY, which names the first such id and its place. */
mdn_status mdn_keyindex_find(mdn_keyindex *index, const uint64_t *ids,
                             uint64_t count, uint64_t *keys,
                             const uint64_t *missing, uint32_t threads,
                             mdn_error *err);

#endif
