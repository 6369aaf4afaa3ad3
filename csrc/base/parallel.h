/* parallel.h - the parts of one piece of work, side by side.
 *
 * What the parts are must not depend on how many threads there are to be had:
 * a part that gets no thread is done by the caller. */
#ifndef MDN_BASE_PARALLEL_H
#define MDN_BASE_PARALLEL_H

#include <stdint.h>

#define MDN_PARTS_MAX 256u

/* Call work(ctx, part) once for each part from 0 to parts - 1, part 0 in the
 * calling thread; all of them are done when it returns. */
void mdn_parallel(uint32_t parts, void (*work)(void *ctx, uint32_t part),
                  void *ctx);

/* How many parts are worth a thread each: at most threads, each of them with
 * at least `least` of the count items, and at least 1. */
uint32_t mdn_parallel_parts(uint64_t count, uint64_t least, uint32_t threads);

/* Where part number `part` of count items begins; it ends where the next one
 * does. */
static inline uint64_t
mdn_part_first(uint64_t count, uint32_t parts, uint32_t part)
{
    return count / parts * part + count % parts * part / parts;
}

#endif
