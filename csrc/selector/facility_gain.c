/* facility_gain.c - the arithmetic around the products, for vector units. */
#include "selector/facility_gain.h"

#include <math.h>

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
add(const double *similar, const double *current, double *excess, double *sums)
{
    for (uint32_t l = 0; l < MDN_LANES; l++) {
        double more = similar[l] - current[l];

        excess[l] = more > 0 ? more : 0;
        sums[l] += excess[l];
    }
}

#define FOR_TARGET(name, attribute)                                            \
    attribute static void similar_##name(const mdn_facility_rule *rule,        \
                                         const double *own, double other,      \
                                         uint64_t count, double *products)     \
    {                                                                          \
        similar(rule, own, other, count, products);                            \
    }                                                                          \
    attribute static void add_##name(const double *close,                      \
                                     const double *current, double *excess,    \
                                     double *sums)                             \
    {                                                                          \
        add(close, current, excess, sums);                                     \
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

bool
mdn_facility_add(const double *close, const double *current, bool ask,
                 double *excess, double *sums)
{
    bool any = false;

#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx2"))
        add_avx2(close, current, excess, sums);
    else
#endif
        add_plain(close, current, excess, sums);
    for (uint32_t l = 0; ask && l < MDN_LANES; l++)
        any = any || excess[l] > 0;
    return any;
}
