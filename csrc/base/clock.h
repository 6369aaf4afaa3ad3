/* clock.h - the wall clock, for what people read later. */
#ifndef MDN_BASE_CLOCK_H
#define MDN_BASE_CLOCK_H

#include <stdint.h>
#include <time.h>

/* Nanoseconds since 1970. */
static inline uint64_t
mdn_wall_ns(void)
{
    struct timespec now = {0, 0};

    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

#endif
