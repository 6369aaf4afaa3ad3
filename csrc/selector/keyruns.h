/* keyruns.h - sets of keys that never change, small in memory.
 *
 * What a hundred models were trained on is held as parts of 65,536 keys
 * (keypart.h).  Keys in a row cost next to nothing; any others at most a bit
 * for each key between the first and the last of a part.
 *
 *     mdn_keyruns_of_keys / of_ranges / union / free
 *     mdn_keyruns_contains                 is it there
 *     mdn_keyruns_common                   how many are in both
 *     mdn_keyruns_list                     the first of them, themselves
 *
 * Sets may be asked from any number of threads.  No answer depends on how many
 * threads a set was made or compared with. */
#ifndef MDN_SELECTOR_KEYRUNS_H
#define MDN_SELECTOR_KEYRUNS_H

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct mdn_keyruns mdn_keyruns;

/* Keys that ascend, each once; there may be none.  MDN_INVALID if they do not;
 * MDN_NOMEM. */
mdn_status mdn_keyruns_of_keys(const uint64_t *keys, uint64_t count,
                               uint32_t threads, mdn_keyruns **out,
                               mdn_error *err);

/* The keys firsts[i] .. lasts[i], both included, of ranges that ascend and do
 * not overlap.  MDN_INVALID, MDN_NOMEM. */
mdn_status mdn_keyruns_of_ranges(const uint64_t *firsts, const uint64_t *lasts,
                                 uint64_t count, mdn_keyruns **out,
                                 mdn_error *err);

/* What is in one or the other.  Parts that one of them has alone, or that add
 * nothing, are shared with it.  MDN_NOMEM. */
mdn_status mdn_keyruns_union(const mdn_keyruns *a, const mdn_keyruns *b,
                             mdn_keyruns **out, mdn_error *err);

void mdn_keyruns_free(mdn_keyruns *set); /* accepts NULL */

/* Facts; none of them can fail. */
uint64_t mdn_keyruns_count(const mdn_keyruns *set);
/* Bytes of memory, less those of parts that were shared when it was made: of
 * sets that are all kept, the sum is what they take together. */
uint64_t mdn_keyruns_size_bytes(const mdn_keyruns *set);

bool mdn_keyruns_contains(const mdn_keyruns *set, uint64_t key);

/* How many keys two sets have in common. */
uint64_t mdn_keyruns_common(const mdn_keyruns *a, const mdn_keyruns *b,
                            uint32_t threads);

typedef enum {
    MDN_KEYRUNS_ALL,     /* the keys of a */
    MDN_KEYRUNS_BOTH,    /* those that b has, too */
    MDN_KEYRUNS_WITHOUT, /* those that b has not */
} mdn_keyruns_which;

/* Write down, ascending, the first `room` of the keys from `from` on; return
 * how many that were.  b may be NULL for MDN_KEYRUNS_ALL. */
uint64_t mdn_keyruns_list(const mdn_keyruns *a, const mdn_keyruns *b,
                          mdn_keyruns_which which, uint64_t from,
                          uint64_t *keys, uint64_t room);

#endif
