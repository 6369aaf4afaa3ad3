/* huge.h - memory that is used all over at random. */
#ifndef MDN_BASE_HUGE_H
#define MDN_BASE_HUGE_H

#include <stdint.h>

/* Some bytes in pages as large as there are, or most of the time would go into
 * finding pages; NULL when there is no memory.  For free(). */
void *mdn_huge_new(uint64_t bytes);

#endif
