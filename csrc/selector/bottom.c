/* bottom.c - bottom-k sampling by hashing, over buffers of draws. */
#include "selector/bottom.h"

#include "base/random.h"
#include "selector/sort.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

/* The factors of mdn_mix and mdn_draw, and their inverses modulo 2^64. */
#define MIX_1 UINT64_C(0xbf58476d1ce4e5b9)
#define MIX_2 UINT64_C(0x94d049bb133111eb)
#define STEP UINT64_C(0x9e3779b97f4a7c15)
#define UNMIX_1 UINT64_C(0x96de1b173f119089)
#define UNMIX_2 UINT64_C(0x319642b2d24d8ec3)
#define UNSTEP UINT64_C(0xf1de83e19937733d)

_Static_assert(MIX_1 *UNMIX_1 == 1, "inverse of the first factor");
_Static_assert(MIX_2 *UNMIX_2 == 1, "inverse of the second factor");
_Static_assert(STEP *UNSTEP == 1, "inverse of the step");

void
mdn_bottom_init(mdn_bottom *bottom, uint64_t *draws, uint64_t capacity,
                uint64_t limit)
{
    *bottom = (mdn_bottom){
        .draws = draws,
        .capacity = capacity,
        .limit = limit,
        .cut = UINT64_MAX,
    };
}

/* Sort the draws and keep one of each value. */
static void
merge_equal(mdn_bottom *bottom)
{
    uint64_t *draws = bottom->draws;
    uint64_t kept = 0;

    mdn_sort_words(draws, bottom->count, bottom->scratch);
    for (uint64_t i = 0; i < bottom->count; i++)
        if (i == 0 || draws[i] != draws[kept - 1])
            draws[kept++] = draws[i];
    bottom->count = kept;
}

void
mdn_bottom_trim(mdn_bottom *bottom)
{
    if (bottom->scratch != NULL)
        merge_equal(bottom);
    if (bottom->count < bottom->limit)
        return;
    if (bottom->limit > 0)
        bottom->cut =
            mdn_sort_smallest(bottom->draws, bottom->count, bottom->limit);
    bottom->count = bottom->limit;
}

/* Every draw is stored; only a small one moves the end, so that the loop has
 * no branch to guess. */
static uint64_t *
append_portable(uint64_t *end, uint64_t cut, uint64_t start,
                const uint64_t *keys, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++) {
        uint64_t draw = mdn_draw(start, keys[i]);

        *end = draw;
        end += draw <= cut;
    }
    return end;
}

#if defined(__x86_64__)
#define AVX512 __attribute__((target("avx512f,avx512dq")))

AVX512 static inline __m512i
mix_eight(__m512i x)
{
    const __m512i mix_1 = _mm512_set1_epi64((int64_t)MIX_1);
    const __m512i mix_2 = _mm512_set1_epi64((int64_t)MIX_2);

    x = _mm512_xor_si512(x, _mm512_srli_epi64(x, 30));
    x = _mm512_mullo_epi64(x, mix_1);
    x = _mm512_xor_si512(x, _mm512_srli_epi64(x, 27));
    x = _mm512_mullo_epi64(x, mix_2);
    return _mm512_xor_si512(x, _mm512_srli_epi64(x, 31));
}

/* mdn_draw of eight keys. */
AVX512 static inline __m512i
draw_eight(uint64_t start, const uint64_t *keys)
{
    const __m512i starts = _mm512_set1_epi64((int64_t)start);
    const __m512i step = _mm512_set1_epi64((int64_t)STEP);
    __m512i x = _mm512_loadu_si512(keys);

    x = _mm512_add_epi64(starts, _mm512_mullo_epi64(x, step));
    return mix_eight(mix_eight(x));
}

/* Eight keys at a time; most steps find no draw below the cut and store
 * nothing. */
AVX512 static uint64_t *
append_avx512(uint64_t *end, uint64_t cut, uint64_t start, const uint64_t *keys,
              uint64_t count)
{
    const __m512i cuts = _mm512_set1_epi64((int64_t)cut);
    uint64_t i = 0;

    for (; i + 8 <= count; i += 8) {
        __m512i draws = draw_eight(start, keys + i);
        __mmask8 below = _mm512_cmple_epu64_mask(draws, cuts);

        if (below != 0) {
            _mm512_mask_compressstoreu_epi64(end, below, draws);
            end += __builtin_popcount(below);
        }
    }
    return append_portable(end, cut, start, keys + i, count - i);
}

AVX512 static void
draws_avx512(uint64_t start, const uint64_t *keys, uint64_t count,
             uint64_t *out)
{
    uint64_t i = 0;

    for (; i + 8 <= count; i += 8)
        _mm512_storeu_si512(out + i, draw_eight(start, keys + i));
    for (; i < count; i++)
        out[i] = mdn_draw(start, keys[i]);
}

static bool
has_avx512(void)
{
    return __builtin_cpu_supports("avx512f")
           && __builtin_cpu_supports("avx512dq");
}
#endif

static void
make_room(mdn_bottom *bottom, uint64_t count)
{
    if (bottom->capacity - bottom->count < count)
        mdn_bottom_trim(bottom);
}

void
mdn_bottom_offer_portable(mdn_bottom *bottom, uint64_t start,
                          const uint64_t *keys, uint64_t count)
{
    uint64_t *end;

    make_room(bottom, count);
    end = append_portable(bottom->draws + bottom->count, bottom->cut, start,
                          keys, count);
    bottom->count = (uint64_t)(end - bottom->draws);
}

void
mdn_bottom_offer(mdn_bottom *bottom, uint64_t start, const uint64_t *keys,
                 uint64_t count)
{
#if defined(__x86_64__)
    if (has_avx512()) {
        uint64_t *end;

        make_room(bottom, count);
        end = append_avx512(bottom->draws + bottom->count, bottom->cut, start,
                            keys, count);
        bottom->count = (uint64_t)(end - bottom->draws);
        return;
    }
#endif
    mdn_bottom_offer_portable(bottom, start, keys, count);
}

void
mdn_bottom_draws(uint64_t start, const uint64_t *keys, uint64_t count,
                 uint64_t *out)
{
#if defined(__x86_64__)
    if (has_avx512()) {
        draws_avx512(start, keys, count, out);
        return;
    }
#endif
    for (uint64_t i = 0; i < count; i++)
        out[i] = mdn_draw(start, keys[i]);
}

/* The inverse of mdn_mix. */
static inline uint64_t
unmix(uint64_t x)
{
    x = (x ^ (x >> 31) ^ (x >> 62)) * UNMIX_2;
    x = (x ^ (x >> 27) ^ (x >> 54)) * UNMIX_1;
    return x ^ (x >> 30) ^ (x >> 60);
}

void
mdn_bottom_keys(uint64_t start, uint64_t *draws, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++)
        draws[i] = (unmix(unmix(draws[i])) - start) * UNSTEP;
}
