/* huge.c - large pages, where the system gives some. */
#include "base/huge.h"

#include "base/bytes.h"

#include <stdlib.h>
#include <sys/mman.h>

#define PAGE (UINT64_C(1) << 21)

void *
mdn_huge_new(uint64_t bytes)
{
    uint64_t whole;
    void *memory;

    if (bytes < PAGE)
        return malloc(bytes > 0 ? bytes : 1);
    if (mdn_add_overflows(bytes, PAGE - 1, &whole))
        return NULL;
    memory = aligned_alloc(PAGE, whole & ~(PAGE - 1));
    if (memory != NULL)
        (void)madvise(memory, whole & ~(PAGE - 1), MADV_HUGEPAGE); /* advice */
    return memory;
}
