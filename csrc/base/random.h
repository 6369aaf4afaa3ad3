/* random.h - random numbers as a function of (seed, stream, index).
 *
 * Nothing draws from a shared generator: the i-th number of a stream is the
 * same whoever asks for it, in whatever order, on however many threads.  The
 * stream tells uses of one seed apart (MDN_STREAM_...). */
#ifndef MDN_BASE_RANDOM_H
#define MDN_BASE_RANDOM_H

#include <stdint.h>

/* Uses of a seed.  The numbers are part of what a seed means: never reused. */
enum {
    MDN_STREAM_UNIFORM = 1,  /* uniform sampling */
    MDN_STREAM_BALANCED = 2, /* class-balanced sampling */
    MDN_STREAM_SHUFFLE = 3,  /* order of an epoch; index is the epoch */
    MDN_STREAM_SHARES = 4,  /* who gets what is left over; index is the group */
    MDN_STREAM_TRIGGER = 5, /* seeds of draws; index is the trigger */
    MDN_STREAM_PARTITIONS = 6, /* order of partitions; index is the epoch */
    MDN_STREAM_WITHIN = 7,  /* order inside; of the epoch, then the partition */
    MDN_STREAM_WINDOWS = 8, /* order of a window's batches; likewise */
    MDN_STREAM_WEIGHTED = 9,    /* weighted sampling; index is the key */
    MDN_STREAM_AGAIN = 10,      /* with replacement; of the draw before */
    MDN_STREAM_ORDER = 11,      /* order of keys for systematic sampling */
    MDN_STREAM_RACE = 12,       /* who stands for its bucket; of that order */
    MDN_STREAM_SYSTEMATIC = 13, /* where systematic sampling starts */
    MDN_STREAM_STEADY = 20,     /* seeds of draws that all triggers share */
    MDN_STREAM_PLACE = 21, /* which sample of a buffer goes; index is the key */
    MDN_STREAM_ENTER = 22, /* whether a sample enters it; index is the key */
    MDN_STREAM_GREEDY = 30, /* who is looked at; index is step * 2^32 + draw */
    MDN_STREAM_POSITION = 40, /* seeds of draws; index is the position */
};

/* Fmix of splitmix64 (Steele, Lea, Flood 2014): a bijection of 64-bit words. */
static inline uint64_t
mdn_mix(uint64_t x)
{
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

/* The start of a stream, to be computed once outside of a loop. */
static inline uint64_t
mdn_stream(uint64_t seed, uint64_t stream)
{
    return mdn_mix(mdn_mix(seed + UINT64_C(0x9e3779b97f4a7c15))
                   ^ (stream * UINT64_C(0xd1b54a32d192ed03)));
}

/* Draw number index of a stream, uniform over all 64-bit words.  For one
 * stream the draws of different indices are all different (a bijection). */
static inline uint64_t
mdn_draw(uint64_t start, uint64_t index)
{
    return mdn_mix(mdn_mix(start + index * UINT64_C(0x9e3779b97f4a7c15)));
}

#endif
