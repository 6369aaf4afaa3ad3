/* facility_gain.c - the arithmetic around the products, for vector units. */
#include "selector/facility_gain.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

typedef double lanes_f64 __attribute__((vector_size(8 * MDN_LANES)));
typedef int64_t lanes_i64 __attribute__((vector_size(8 * MDN_LANES)));

#define INLINE static inline __attribute__((always_inline))

INLINE void
similar(const mdn_facility_rule *rule, const double *own, double other,
        uint64_t count, double *products)
{
    if (rule->similarity == MDN_SIMILAR_COSINE) {
        for (uint64_t i = 0; i < count; i++) {
            double s = 0.5 + 0.5 * (products[i] * (own[i] * other));

            products[i] = s < 1.0 ? s : 1.0;
        }
    } else {
        for (uint64_t i = 0; i < count; i++) {
            double square = own[i] + other - 2.0 * products[i];

            products[i] = rule->far - sqrt(square > 0 ? square : 0);
        }
    }
}

INLINE void
add(const double *close, const double *current, uint64_t count, double *sums,
    uint32_t *found)
{
    lanes_f64 total, s, c;
    uint32_t bits = 0;

    memcpy(&total, sums, sizeof total);
    for (uint64_t p = 0; p < count; p++) {
        lanes_i64 above;

        memcpy(&s, close + p * MDN_LANES, sizeof s);
        memcpy(&c, current + p * MDN_LANES, sizeof c);
        above = s > c;
        s -= c;
        total += (lanes_f64)((lanes_i64)s & above);
        if (found != NULL) {
            int64_t any = (above[0] | above[1] | above[2] | above[3])
                          | (above[4] | above[5] | above[6] | above[7]);

            bits |= (uint32_t)(any & 1) << p;
        }
    }
    memcpy(sums, &total, sizeof total);
    if (found != NULL)
        *found = bits;
}

#define FOR_TARGET(name, attribute)                                            \
    attribute static void similar_##name(const mdn_facility_rule *rule,        \
                                         const double *own, double other,      \
                                         uint64_t count, double *products)     \
    {                                                                          \
        similar(rule, own, other, count, products);                            \
    }                                                                          \
    attribute static void add_##name(const double *close,                      \
                                     const double *current, uint64_t count,    \
                                     double *sums, uint32_t *found)            \
    {                                                                          \
        add(close, current, count, sums, found);                               \
    }

FOR_TARGET(plain, )
#if defined(__x86_64__)
FOR_TARGET(avx2, __attribute__((target("avx2"))))
#endif

void
mdn_facility_similar(const mdn_facility_rule *rule, const double *own,
                     double other, uint64_t count, double *products)
{
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx2")) {
        similar_avx2(rule, own, other, count, products);
        return;
    }
#endif
    similar_plain(rule, own, other, count, products);
}

void
mdn_facility_add(const double *close, const double *current, uint64_t count,
                 double *sums, uint32_t *found)
{
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx2")) {
        add_avx2(close, current, count, sums, found);
        return;
    }
#endif
    add_plain(close, current, count, sums, found);
}
