/* fuzz_events.c - the payload of an event is read in full, or refused.
 *
 * The first byte says which event it is to be.  What is accepted is written
 * again, and must be the same. */
#include "storage/events.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check_erase(const mdn_entry *entry)
{
    mdn_erase_event event;
    uint64_t first, count = 1, next = 0;

    if (!mdn_erase_decode(entry, &event))
        return;
    while (count > 0 && mdn_erase_next(&event, &first, &count)) {
        if (count > 0 && (first < next || first + count < first))
            abort();
        next = first + count;
    }
}

static void
check_compact(const mdn_entry *entry)
{
    uint64_t count, sum = 0;

    if (!mdn_compact_decode(entry, &count))
        return;
    for (uint64_t i = 0; i < count; i++)
        sum += mdn_compact_at(entry, i).segment;
    if (count == 1 && sum != mdn_compact_at(entry, 0).segment)
        abort();
}

static void
check_link(const mdn_entry *entry, uint64_t record_size, uint32_t shift)
{
    mdn_link_event event;
    uint64_t last, size;
    uint8_t *again;

    if (!mdn_link_decode(entry, record_size, shift, &event))
        return;
    last = event.first_row + (event.segments << shift) - 1;
    if (event.offset + last * event.stride + record_size > event.size
        || event.path[0] != '/')
        abort();
    if (mdn_link_encode(&event, &again, &size, NULL) != MDN_OK)
        return;
    if (size != entry->payload_size || memcmp(again, entry->payload, size) != 0)
        abort();
    free(again);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *copy; /* of its own size, so that reading behind it is noticed */
    mdn_entry entry = {.number = 1};

    if (size < 3 || (copy = malloc(size - 3 + 1)) == NULL)
        return 0;
    memcpy(copy, data + 3, size - 3);
    copy = realloc(copy, size - 3 > 0 ? size - 3 : 1);
    entry.payload = copy;
    entry.payload_size = size - 3;
    if (data[0] % 3 == 0)
        check_erase(&entry);
    else if (data[0] % 3 == 1)
        check_compact(&entry);
    else
        check_link(&entry, (uint64_t)data[1] + 1, 13 + data[2] % 18);
    free(copy);
    return 0;
}
