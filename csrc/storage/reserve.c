/* reserve.c - ranges of addresses for mappings.
 *
 * Mappings begin at huge page boundaries: with folios of that size in the page
 * cache, one entry of the page table then serves 2 MiB. */
#include "storage/reserve.h"

#include "base/bytes.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#define HUGE_SIZE UINT64_C(0x200000)

mdn_status
mdn_reserve_add(mdn_range **list, uint64_t size, uint8_t **out, mdn_error *err)
{
    mdn_range *range = malloc(sizeof *range);
    uint64_t room, gap;
    void *base = MAP_FAILED;

    if (range == NULL)
        return mdn_fail_nomem(err, sizeof *range);
    /* Whole huge pages, which may be put there, and room to begin at one. */
    if (!mdn_add_overflows(size, 2 * HUGE_SIZE - 1, &room)) {
        room &= ~(HUGE_SIZE - 1);
        base = mmap(NULL, room, PROT_NONE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    }
    if (base == MAP_FAILED) {
        free(range);
        return mdn_fail(err, MDN_NOMEM,
                        "no address space for %llu bytes of a dataset",
                        (unsigned long long)size);
    }
    *range = (mdn_range){*list, base, room};
    *list = range;
    gap = (HUGE_SIZE - (uint64_t)(uintptr_t)base % HUGE_SIZE) % HUGE_SIZE;
    *out = (uint8_t *)base + gap;
    return MDN_OK;
}

void
mdn_reserve_free(mdn_range *list)
{
    while (list != NULL) {
        mdn_range *next = list->next;

        munmap(list->base, list->size);
        free(list);
        list = next;
    }
}

mdn_status
mdn_reserve_memory(uint64_t size, uint8_t **out, mdn_error *err)
{
    uint8_t *base = mmap(NULL, size + HUGE_SIZE, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    uint64_t before;

    *out = NULL;
    if (base == MAP_FAILED)
        return mdn_fail_nomem(err, size);
    before = (HUGE_SIZE - (uint64_t)(uintptr_t)base % HUGE_SIZE) % HUGE_SIZE;
    if (before > 0)
        munmap(base, before);
    munmap(base + before + size, HUGE_SIZE - before);
    (void)madvise(base + before, size, MADV_HUGEPAGE); /* advice */
    *out = base + before;
    return MDN_OK;
}

void
mdn_reserve_return(uint8_t *memory, uint64_t size)
{
    munmap(memory, size);
}

mdn_status
mdn_reserve_replace(uint8_t *at, uint8_t *memory, uint64_t size, mdn_error *err)
{
    if (mprotect(memory, size, PROT_READ) < 0
        || mremap(memory, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, at)
               == MAP_FAILED)
        return mdn_fail_errno(err, errno, "%llu bytes cannot be moved",
                              (unsigned long long)size);
    return MDN_OK;
}
