/* ragged_floor.c - what the machine can do with records of varying length.
 *
 * Payloads lie one after the other in one mapping; payload k is bytes
 * [starts[k], starts[k + 1]).  A gather puts those of some keys one after the
 * other into memory that is used again, and says where each begins: memcpy and
 * nothing else.  A touch reads the same bytes where they are, as somebody would
 * who needs no copy.
 *
 * Compiled by benchmarks/machine.py and called through ctypes. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define AHEAD 4 /* records whose place is known early */
#define HEAD                                                                   \
    2048 /* bytes of a record that are asked for before they are read */

static void
ask_for(const char *base, const uint64_t *starts, const uint64_t *keys,
        size_t at, size_t count)
{
    if (at + 4 * AHEAD < count)
        __builtin_prefetch(&starts[keys[at + 4 * AHEAD]], 0, 2);
    if (at + AHEAD < count) {
        uint64_t key = keys[at + AHEAD], size = starts[key + 1] - starts[key];

        for (size_t line = 0; line < size && line < HEAD; line += 64)
            __builtin_prefetch(base + starts[key] + line, 0, 2);
    }
}

void
floor_ragged_copy(const char *base, const uint64_t *starts,
                  const uint64_t *keys, size_t count, char *values,
                  int64_t *offsets)
{
    int64_t end = 0;

    offsets[0] = 0;
    for (size_t i = 0; i < count; i++) {
        uint64_t start = starts[keys[i]], size = starts[keys[i] + 1] - start;

        ask_for(base, starts, keys, i, count);
        memcpy(values + end, base + start, size);
        end += (int64_t)size;
        offsets[i + 1] = end;
    }
}

/* The sum of the words that lie wholly in the records. */
uint64_t
floor_ragged_touch(const char *base, const uint64_t *starts,
                   const uint64_t *keys, size_t count)
{
    uint64_t sum = 0;

    for (size_t i = 0; i < count; i++) {
        uint64_t start = starts[keys[i]], size = starts[keys[i] + 1] - start;

        ask_for(base, starts, keys, i, count);
        for (size_t at = 0; at + 8 <= size; at += 8) {
            uint64_t word;

            memcpy(&word, base + start + at, 8);
            sum += word;
        }
    }
    return sum;
}
