/* selection_floor.c - what choosing among keys costs at the least.
 *
 * Each loop looks at every candidate once, as a sampler must, and counts those
 * that a cut lets through; nothing is kept, trimmed or sorted.  Compiled for
 * the machine at hand. */
#include <stddef.h>
#include <stdint.h>

static inline uint64_t
mix(uint64_t x)
{
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

static inline uint64_t
draw(uint64_t start, uint64_t key)
{
    return mix(mix(start + key * UINT64_C(0x9e3779b97f4a7c15)));
}

/* A draw for each key, and a comparison. */
uint64_t
floor_uniform(const uint64_t *keys, size_t count, uint64_t start, uint64_t cut)
{
    uint64_t found = 0;

    for (size_t i = 0; i < count; i++)
        found += draw(start, keys[i]) <= cut;
    return found;
}

/* The same against a cut that follows the weight. */
uint64_t
floor_weighted(const uint64_t *keys, const double *weights, size_t count,
               uint64_t start, double cut)
{
    uint64_t found = 0;

    for (size_t i = 0; i < count; i++)
        found += (double)(int64_t)(draw(start, keys[i]) >> 11)
                 <= cut * weights[i] * 0x1p53;
    return found;
}

/* The same against the cut of a label below 256, whose size is counted. */
uint64_t
floor_balanced(const uint64_t *keys, const int64_t *labels, size_t count,
               uint64_t start, uint64_t cut)
{
    uint64_t sizes[256] = {0}, cuts[256], found = 0;

    for (int c = 0; c < 256; c++)
        cuts[c] = cut;
    for (size_t i = 0; i < count; i++) {
        uint8_t label = (uint8_t)labels[i];

        sizes[label]++;
        found += draw(start, keys[i]) <= cuts[label];
    }
    return found + (sizes[0] == UINT64_MAX);
}

/* A comparison for each value. */
uint64_t
floor_top(const double *values, size_t count, double cut)
{
    uint64_t found = 0;

    for (size_t i = 0; i < count; i++)
        found += values[i] >= cut;
    return found;
}
