/* timesort.c - a stable radix sort of places by time, on several threads.
 *
 * A word holds as many bits of a time as fit beside the place it stands for:
 *
 *     | bits of time - earliest | place |         64 bits
 *
 * Words are sorted by the upper part alone, one digit after the other from the
 * lowest, each pass stable, so that equal times stay in the order of places.
 * Times of a wide range take several rounds: the first sorts by their lowest
 * bits, the next puts higher ones into the words as they lie then, and so on.
 * (100 million times within 34 years fit one round, in seconds.)
 *
 * A pass is cut into parts of the words.  Each part counts its digits, the
 * counts give each part its own place for each digit, and the parts are moved
 * there at the same time.  So neither the parts nor the threads show in the
 * result. */
#include "storage/timesort.h"

#include "base/parallel.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define DIGIT_BITS 8
#define DIGITS (1u << DIGIT_BITS)
#define PART_MIN (UINT64_C(1) << 15) /* words that are worth a thread */
#define HUGE_SIZE UINT64_C(0x200000)

typedef struct {
    const int64_t *times;
    uint64_t count, earliest;
    uint64_t *words, *other; /* swapped by each pass */
    uint32_t place_bits;     /* of a word, the lowest */
    uint32_t parts;
    uint64_t (*places)[DIGITS]; /* of each part: counts, then next places */
    /* Of the round or the pass that is under way. */
    uint32_t shift;
    uint64_t mask;
    bool first_round;
} sorter;

/* Large pages where the kernel has them: the moves go everywhere. */
static uint64_t *
new_words(uint64_t count)
{
    uint64_t size = (count * 8 + HUGE_SIZE - 1) & ~(HUGE_SIZE - 1);
    uint64_t *words;

    if (count * 8 < HUGE_SIZE)
        return malloc(count * 8);
    words = aligned_alloc(HUGE_SIZE, size);
    if (words != NULL)
        madvise(words, size, MADV_HUGEPAGE);
    return words;
}

static uint32_t
bits_of(uint64_t value)
{
    return value == 0 ? 0 : 64 - (uint32_t)__builtin_clzll(value);
}

/* Bits shift and up of each time, into the words. */
static void
fill_part(void *ctx, uint32_t part)
{
    const sorter *s = ctx;
    uint64_t end = mdn_part_first(s->count, s->parts, part + 1);
    uint64_t place_mask = (UINT64_C(1) << s->place_bits) - 1;

    for (uint64_t i = mdn_part_first(s->count, s->parts, part); i < end; i++) {
        uint64_t place = s->first_round ? i : s->words[i] & place_mask;
        uint64_t time = (uint64_t)s->times[place] - s->earliest;

        s->words[i] = (time >> s->shift & s->mask) << s->place_bits | place;
    }
}

static void
count_part(void *ctx, uint32_t part)
{
    const sorter *s = ctx;
    uint64_t end = mdn_part_first(s->count, s->parts, part + 1);
    uint64_t *counts = s->places[part];

    memset(counts, 0, sizeof s->places[part]);
    for (uint64_t i = mdn_part_first(s->count, s->parts, part); i < end; i++)
        counts[s->words[i] >> s->shift & s->mask]++;
}

static void
move_part(void *ctx, uint32_t part)
{
    const sorter *s = ctx;
    uint64_t end = mdn_part_first(s->count, s->parts, part + 1);
    uint64_t *places = s->places[part];

    for (uint64_t i = mdn_part_first(s->count, s->parts, part); i < end; i++) {
        uint64_t word = s->words[i];

        s->other[places[word >> s->shift & s->mask]++] = word;
    }
}

/* Counts into first places: by digit, then by part.  True when all words have
 * the same digit, and need not be moved. */
static bool
place_digits(const sorter *s)
{
    uint64_t next = 0;

    for (uint32_t digit = 0; digit < DIGITS; digit++) {
        uint64_t first = next;

        for (uint32_t part = 0; part < s->parts; part++) {
            uint64_t count = s->places[part][digit];

            s->places[part][digit] = next;
            next += count;
        }
        if (next - first == s->count)
            return true;
    }
    return false;
}

/* Sort the words by `bits` bits above the place. */
static void
sort_round(sorter *s, uint32_t bits)
{
    uint32_t end = s->place_bits + bits;

    for (uint32_t at = s->place_bits; at < end; at += DIGIT_BITS) {
        uint64_t *moved = s->other;

        s->shift = at;
        s->mask = end - at < DIGIT_BITS ? (1u << (end - at)) - 1 : DIGITS - 1;
        mdn_parallel(s->parts, count_part, s);
        if (place_digits(s))
            continue;
        mdn_parallel(s->parts, move_part, s);
        s->other = s->words;
        s->words = moved;
    }
}

static void
sort_all(sorter *s, uint64_t range)
{
    uint32_t range_bits = bits_of(range), room = 64 - s->place_bits;
    uint64_t place_mask = (UINT64_C(1) << s->place_bits) - 1;

    s->first_round = true;
    for (uint32_t at = 0; s->first_round || at < range_bits; at += room) {
        uint32_t bits = range_bits - at < room ? range_bits - at : room;

        s->shift = at;
        s->mask = (UINT64_C(1) << bits) - 1; /* bits < 64: a place has one */
        mdn_parallel(s->parts, fill_part, s);
        s->first_round = false;
        sort_round(s, bits);
    }
    for (uint64_t i = 0; i < s->count; i++)
        s->words[i] &= place_mask;
}

mdn_status
mdn_time_sort(const int64_t *times, uint64_t count, uint32_t threads,
              uint64_t **out, mdn_error *err)
{
    sorter s = {.times = times, .count = count};
    int64_t earliest = INT64_MAX, latest = INT64_MIN;

    *out = NULL;
    s.parts = mdn_parallel_parts(count, PART_MIN, threads);
    s.place_bits = count > 1 ? bits_of(count - 1) : 1;
    s.words = new_words(count + 1);
    s.other = new_words(count + 1);
    s.places = malloc(s.parts * sizeof *s.places);
    if (s.words == NULL || s.other == NULL || s.places == NULL) {
        free(s.words);
        free(s.other);
        free(s.places);
        return mdn_fail_nomem(err, 16 * count);
    }
    for (uint64_t i = 0; i < count; i++) {
        earliest = times[i] < earliest ? times[i] : earliest;
        latest = times[i] > latest ? times[i] : latest;
    }
    s.earliest = (uint64_t)earliest;
    if (count > 0)
        sort_all(&s, (uint64_t)latest - s.earliest);
    free(s.other);
    free(s.places);
    *out = s.words;
    return MDN_OK;
}
