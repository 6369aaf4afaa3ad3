/* keyruns_set.h - what a set is made of, for those who make one.
 *
 *     parts[i].high < parts[i + 1].high;  count = sum of parts[i].count */
#ifndef MDN_SELECTOR_KEYRUNS_SET_H
#define MDN_SELECTOR_KEYRUNS_SET_H

#include "selector/keypart.h"
#include "selector/keyruns.h"

/* How many parts are worth a thread: to be made, and to be compared, which
 * takes well below a microsecond each from cache. */
#define MDN_KEYRUNS_MADE 64
#define MDN_KEYRUNS_COMPARED 4096

struct mdn_keyruns {
    mdn_part *parts; /* owned */
    uint64_t part_count, room;
    uint64_t count;
    uint64_t size_bytes; /* of data that was made for this set */
};

/* A set without keys; MDN_NOMEM. */
mdn_status mdn_keyruns_new(mdn_keyruns **out, mdn_error *err);

/* Room for one more part; MDN_NOMEM. */
mdn_status mdn_keyruns_reserve(mdn_keyruns *set, mdn_error *err);

/* Take over a part, for which there is room. */
void mdn_keyruns_append(mdn_keyruns *set, mdn_part part, bool shared);

/* Give back the room that was not needed. */
void mdn_keyruns_trim(mdn_keyruns *set);

#endif
