/* clock.h - the wall clock, for what people read later, and the steady one. */
#ifndef MDN_BASE_CLOCK_H
#define MDN_BASE_CLOCK_H

#include <stdint.h>
#include <time.h>

static inline uint64_t
mdn_clock_ns(clockid_t clock)
{
    struct timespec now = {0, 0};

    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

/* Nanoseconds since 1970. */
static inline uint64_t
mdn_wall_ns(void)
{
    return mdn_clock_ns(CLOCK_REALTIME);
}

/* Nanoseconds since some moment; nobody sets this clock. */
static inline uint64_t
mdn_steady_ns(void)
{
    return mdn_clock_ns(CLOCK_MONOTONIC);
}

#endif
