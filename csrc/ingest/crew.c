/* crew.c - threads that take the next item until there is none.
 *
 * Items are claimed in order, so when item n fails, all before n are claimed
 * and will be done: which failure is the first does not depend on timing. */
#include "ingest/crew.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

typedef struct {
    mdn_crew_work *work;
    void *self;
    uint64_t count;
    atomic_uint_fast64_t next;
    atomic_uint_fast32_t worker;
    pthread_mutex_t lock; /* of what follows */
    uint64_t failed;      /* count: none */
    mdn_status status;
    mdn_error error;
} crew;

static void
note_failure(crew *c, uint64_t item, mdn_status status, const mdn_error *error)
{
    pthread_mutex_lock(&c->lock);
    if (item < c->failed) {
        c->failed = item;
        c->status = status;
        c->error = *error;
    }
    pthread_mutex_unlock(&c->lock);
    atomic_store(&c->next, c->count);
}

static void *
run(void *argument)
{
    crew *c = argument;
    uint32_t worker = (uint32_t)atomic_fetch_add(&c->worker, 1);
    mdn_error error;

    for (;;) {
        uint64_t item = atomic_load(&c->next);
        mdn_status st;

        do {
            if (item >= c->count)
                return NULL;
        } while (!atomic_compare_exchange_weak(&c->next, &item, item + 1));
        st = c->work(c->self, item, worker, &error);
        if (st != MDN_OK)
            note_failure(c, item, st, &error);
    }
}

mdn_status
mdn_crew_run(uint32_t threads, uint64_t count, mdn_crew_work *work, void *self,
             uint64_t *failed, mdn_error *err)
{
    crew c = {.work = work,
              .self = self,
              .count = count,
              .lock = PTHREAD_MUTEX_INITIALIZER,
              .failed = count};
    pthread_t others[MDN_CREW_MAX];
    uint32_t started = 0;

    if (threads > MDN_CREW_MAX)
        threads = MDN_CREW_MAX;
    while (started + 1 < threads && started + 1 < count
           && pthread_create(&others[started], NULL, run, &c) == 0)
        started++;
    run(&c);
    for (uint32_t i = 0; i < started; i++)
        pthread_join(others[i], NULL);
    *failed = c.failed;
    if (c.status != MDN_OK && err != NULL)
        *err = c.error;
    return c.status;
}
