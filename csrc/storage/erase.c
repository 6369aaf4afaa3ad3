/* erase.c - samples that nobody is to see again.
 *
 * An erasure is an entry of the journal `events`, and counts with the commit
 * that names it.  The bytes stay where they are until a compaction; every view
 * from here on refuses them. */
#include "storage/handle.h"

#include "storage/events.h"

#include <stdlib.h>

/* The keys that are not erased yet, malloc'd. */
static mdn_status
select_living(const mdn_view *view, const uint64_t *keys, uint64_t count,
              uint64_t **out, uint64_t *living, mdn_error *err)
{
    uint64_t *left = malloc((count + 1) * sizeof *left);
    uint64_t n = 0;

    if (left == NULL)
        return mdn_fail_nomem(err, count * sizeof *left);
    for (uint64_t i = 0; i < count; i++) {
        if (!mdn_view_erased(view, keys[i]))
            left[n++] = keys[i];
    }
    *out = left;
    *living = n;
    return MDN_OK;
}

static mdn_status
check_keys(const mdn_dataset *dataset, const uint64_t *keys, uint64_t count,
           mdn_error *err)
{
    uint64_t have = dataset->manifest.tail.count;

    for (uint64_t i = 1; i < count; i++) {
        if (keys[i] <= keys[i - 1])
            return mdn_fail(
                err, MDN_INVALID, "keys must ascend, but key %llu follows %llu",
                (unsigned long long)keys[i], (unsigned long long)keys[i - 1]);
    }
    if (count > 0 && keys[count - 1] >= have)
        return mdn_fail(err, MDN_NO_KEY,
                        "no sample has key %llu: %s has %llu samples; nothing "
                        "was erased",
                        (unsigned long long)keys[count - 1], dataset->path,
                        (unsigned long long)have);
    return MDN_OK;
}

mdn_status
mdn_dataset_erase(mdn_dataset *dataset, const uint64_t *keys, uint64_t count,
                  const char *who, const char *why, uint64_t *erased,
                  mdn_error *err)
{
    mdn_next next = {.tail = dataset->manifest.tail};
    uint64_t *living = NULL, n = 0, size;
    uint8_t *payload = NULL;
    mdn_status st;

    *erased = 0;
    if ((st = mdn_handle_check_writable(dataset, err)) != MDN_OK
        || (st = check_keys(dataset, keys, count, err)) != MDN_OK
        || (st = select_living(dataset->view, keys, count, &living, &n, err))
               != MDN_OK)
        return st;
    if (n > 0)
        st = mdn_erase_encode(living, n, who, why, &payload, &size, err);
    free(living);
    if (st != MDN_OK || n == 0)
        return st;
    st = mdn_handle_note(dataset, MDN_EVENTS, MDN_EVENT_ERASE, payload, size,
                         &next.tail, err);
    free(payload);
    if (st == MDN_OK)
        st = mdn_handle_prepare(dataset, &next, err);
    if (st == MDN_OK)
        st = mdn_handle_commit(dataset, &next, err);
    if (st == MDN_OK)
        *erased = n;
    return st;
}
