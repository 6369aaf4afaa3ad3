/* events.c - payloads of the journal `events`, to and from bytes. */
#include "storage/events.h"

#include "base/bytes.h"

#include <stdlib.h>
#include <string.h>

#define ERASE_HEAD 16
#define LINK_HEAD 56
#define VARINT_MAX 10 /* bytes of a LEB128 number of 64 bits */

static uint8_t *
put_varint(uint8_t *at, uint64_t value)
{
    for (; value >= 0x80; value >>= 7)
        *at++ = (uint8_t)(value | 0x80);
    *at++ = (uint8_t)value;
    return at;
}

static bool
get_varint(const uint8_t **at, const uint8_t *end, uint64_t *out)
{
    uint64_t value = 0;

    for (uint32_t shift = 0; shift < 64 && *at < end; shift += 7) {
        uint64_t byte = *(*at)++;

        if (shift == 63 && byte > 1)
            return false;
        value |= (byte & 0x7f) << shift;
        if (byte < 0x80) {
            *out = value;
            return true;
        }
    }
    return false;
}

/* How many keys follow each other without a gap. */
static uint64_t
run_length(const uint64_t *keys, uint64_t count)
{
    uint64_t n = 1;

    while (n < count && keys[n] == keys[0] + n)
        n++;
    return n;
}

mdn_status
mdn_erase_encode(const uint64_t *keys, uint64_t count, const char *who,
                 const char *why, uint8_t **out, uint64_t *size, mdn_error *err)
{
    uint64_t who_size = strlen(who), why_size = strlen(why), next = 0, room;
    uint64_t ranges = 0;
    uint8_t *at;

    *out = NULL;
    if (who_size > MDN_EVENT_TEXT_MAX || why_size > MDN_EVENT_TEXT_MAX)
        return mdn_fail(err, MDN_INVALID,
                        "who and reason must have at most %d bytes each, they "
                        "have %llu and %llu",
                        MDN_EVENT_TEXT_MAX, (unsigned long long)who_size,
                        (unsigned long long)why_size);
    for (uint64_t i = 0; i < count; i += run_length(keys + i, count - i))
        ranges++;
    if (mdn_mul_overflows(ranges, 2 * VARINT_MAX, &room)
        || mdn_add_overflows(room, ERASE_HEAD + who_size + why_size, &room)
        || (at = *out = malloc(room)) == NULL)
        return mdn_fail_nomem(err, count);
    mdn_store_u64(at, count);
    mdn_store_u32(at + 8, (uint32_t)who_size);
    mdn_store_u32(at + 12, (uint32_t)why_size);
    memcpy(at + ERASE_HEAD, who, who_size);
    memcpy(at + ERASE_HEAD + who_size, why, why_size);
    at += ERASE_HEAD + who_size + why_size;
    for (uint64_t i = 0; i < count;) {
        uint64_t n = run_length(keys + i, count - i);

        at = put_varint(at, keys[i] - next);
        at = put_varint(at, n - 1);
        next = keys[i] + n;
        i += n;
    }
    *size = (uint64_t)(at - *out);
    return MDN_OK;
}

bool
mdn_erase_decode(const mdn_entry *entry, mdn_erase_event *out)
{
    const uint8_t *payload = entry->payload;
    uint64_t texts;

    if (entry->payload_size < ERASE_HEAD)
        return false;
    *out = (mdn_erase_event){.count = mdn_load_u64(payload),
                             .who_size = mdn_load_u32(payload + 8),
                             .why_size = mdn_load_u32(payload + 12)};
    texts = (uint64_t)out->who_size + out->why_size;
    if (out->who_size > MDN_EVENT_TEXT_MAX || out->why_size > MDN_EVENT_TEXT_MAX
        || texts > entry->payload_size - ERASE_HEAD)
        return false;
    out->who = (const char *)payload + ERASE_HEAD;
    out->why = out->who + out->who_size;
    out->at = payload + ERASE_HEAD + texts;
    out->end = payload + entry->payload_size;
    return true;
}

bool
mdn_erase_next(mdn_erase_event *event, uint64_t *first, uint64_t *count)
{
    uint64_t gap, more;

    *first = *count = 0;
    if (event->at == event->end)
        return true;
    if (!get_varint(&event->at, event->end, &gap)
        || !get_varint(&event->at, event->end, &more)
        || (event->begun && gap == 0)
        || mdn_add_overflows(event->next, gap, first)
        || mdn_add_overflows(more, 1, count)
        || mdn_add_overflows(*first, *count, &event->next))
        return false;
    event->begun = true;
    return true;
}

mdn_status
mdn_compact_encode(const mdn_compacted *segments, uint64_t count, uint8_t **out,
                   uint64_t *size, mdn_error *err)
{
    *size = 8 + 16 * count;
    *out = malloc(*size);
    if (*out == NULL)
        return mdn_fail_nomem(err, *size);
    mdn_store_u64(*out, count);
    for (uint64_t i = 0; i < count; i++) {
        mdn_store_u64(*out + 8 + 16 * i, segments[i].segment);
        mdn_store_u64(*out + 16 + 16 * i, segments[i].bytes);
    }
    return MDN_OK;
}

bool
mdn_compact_decode(const mdn_entry *entry, uint64_t *count)
{
    uint64_t last = 0;

    if (entry->payload_size < 8)
        return false;
    *count = mdn_load_u64(entry->payload);
    if (*count == 0 || *count != (entry->payload_size - 8) / 16
        || (entry->payload_size - 8) % 16 != 0)
        return false;
    for (uint64_t i = 0; i < *count; i++) {
        uint64_t segment = mdn_compact_at(entry, i).segment;

        if (i > 0 && segment <= last)
            return false;
        last = segment;
    }
    return true;
}

mdn_compacted
mdn_compact_at(const mdn_entry *entry, uint64_t index)
{
    const uint8_t *at = entry->payload + 8 + 16 * index;

    return (mdn_compacted){mdn_load_u64(at), mdn_load_u64(at + 8)};
}

mdn_status
mdn_link_encode(const mdn_link_event *event, uint8_t **out, uint64_t *size,
                mdn_error *err)
{
    uint8_t *at;

    *size = LINK_HEAD + event->path_size;
    at = *out = malloc(*size);
    if (at == NULL)
        return mdn_fail_nomem(err, *size);
    mdn_store_u64(at, event->size);
    mdn_store_u64(at + 8, (uint64_t)event->mtime_ns);
    mdn_store_u64(at + 16, event->offset);
    mdn_store_u64(at + 24, event->stride);
    mdn_store_u64(at + 32, event->first_row);
    mdn_store_u64(at + 40, event->first_segment);
    mdn_store_u64(at + 48, event->segments);
    memcpy(at + LINK_HEAD, event->path, event->path_size);
    return MDN_OK;
}

/* Does the last row end within the file? */
static bool
link_fits(const mdn_link_event *event, uint64_t record_size,
          uint32_t segment_shift)
{
    uint64_t rows, end;

    return event->segments > 0 && event->stride >= record_size
           && event->segments <= MDN_COUNT_MAX >> segment_shift
           && event->first_segment
                  <= (MDN_COUNT_MAX >> segment_shift) - event->segments
           && !mdn_add_overflows(event->first_row,
                                 (event->segments << segment_shift) - 1, &rows)
           && !mdn_mul_overflows(rows, event->stride, &end)
           && !mdn_add_overflows(end, event->offset, &end)
           && !mdn_add_overflows(end, record_size, &end) && end <= event->size;
}

bool
mdn_link_decode(const mdn_entry *entry, uint64_t record_size,
                uint32_t segment_shift, mdn_link_event *out)
{
    const uint8_t *payload = entry->payload;
    uint64_t path_size;

    if (entry->payload_size <= LINK_HEAD)
        return false;
    path_size = entry->payload_size - LINK_HEAD;
    *out = (mdn_link_event){
        .size = mdn_load_u64(payload),
        .mtime_ns = (int64_t)mdn_load_u64(payload + 8),
        .offset = mdn_load_u64(payload + 16),
        .stride = mdn_load_u64(payload + 24),
        .first_row = mdn_load_u64(payload + 32),
        .first_segment = mdn_load_u64(payload + 40),
        .segments = mdn_load_u64(payload + 48),
        .path = (const char *)payload + LINK_HEAD,
        .path_size = path_size,
    };
    return path_size <= MDN_LINK_PATH_MAX && out->path[0] == '/'
           && memchr(out->path, '\0', path_size) == NULL
           && link_fits(out, record_size, segment_shift);
}
