/* parallel.c - threads for as long as one call. */
#include "base/parallel.h"

#include <pthread.h>
#include <stdbool.h>

typedef struct {
    void (*work)(void *ctx, uint32_t part);
    void *ctx;
    uint32_t part;
    pthread_t thread;
    bool started;
} helper;

static void *
run(void *argument)
{
    helper *h = argument;

    h->work(h->ctx, h->part);
    return NULL;
}

void
mdn_parallel(uint32_t parts, void (*work)(void *ctx, uint32_t part), void *ctx)
{
    helper helpers[MDN_PARTS_MAX];
    uint32_t started = parts < MDN_PARTS_MAX ? parts : MDN_PARTS_MAX;

    for (uint32_t p = 1; p < started; p++) {
        helpers[p] = (helper){.work = work, .ctx = ctx, .part = p};
        helpers[p].started =
            pthread_create(&helpers[p].thread, NULL, run, &helpers[p]) == 0;
    }
    for (uint32_t p = 0; p < parts; p++) {
        if (p == 0 || p >= started || !helpers[p].started)
            work(ctx, p);
    }
    for (uint32_t p = 1; p < started; p++) {
        if (helpers[p].started)
            pthread_join(helpers[p].thread, NULL);
    }
}

uint32_t
mdn_parallel_parts(uint64_t count, uint64_t least, uint32_t threads)
{
    uint64_t parts = count / least;

    if (parts > threads)
        parts = threads;
    if (parts > MDN_PARTS_MAX)
        parts = MDN_PARTS_MAX;
    return parts > 0 ? (uint32_t)parts : 1;
}
