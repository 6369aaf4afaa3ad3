/* windows.c - a table of the plans that are in use.
 *
 * An entry is in one of three states, told by its members:
 *
 *     free       uses_left == 0
 *     planning   uses_left > 0, not ready: its maker is at work, others wait
 *     ready      until the last use is over: a plan, or the error in its place
 *
 * There are as many entries as windows can be in use at the same time, which
 * are few, so that they are looked for one after the other. */
#include "prefetch/windows.h"

#include <assert.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <unistd.h>

typedef struct {
    uint64_t number;
    uint64_t uses_left;
    bool ready;
    mdn_status status;
    uint64_t *plan; /* owned; NULL unless ready and MDN_OK */
    mdn_error error;
} entry;

struct mdn_windows {
    mdn_windows_options opt;
    pid_t pid; /* of the process whose threads use it */

    pthread_mutex_t lock;
    pthread_cond_t planned;
    entry entries[]; /* opt.live_max of them */
};

mdn_status
mdn_windows_new(const mdn_windows_options *options, mdn_windows **out,
                mdn_error *err)
{
    uint64_t size = sizeof(mdn_windows) + options->live_max * sizeof(entry);
    mdn_windows *windows = calloc(1, size);
    int code;

    assert(options->live_max >= 1);
    *out = NULL;
    if (windows == NULL)
        return mdn_fail_nomem(err, size);
    windows->opt = *options;
    windows->pid = getpid();
    code = pthread_mutex_init(&windows->lock, NULL);
    if (code == 0)
        code = pthread_cond_init(&windows->planned, NULL);
    if (code != 0) { /* on no system we know: EAGAIN, ENOMEM */
        free(windows);
        return mdn_fail_errno(err, code, "prefetch: no lock");
    }
    *out = windows;
    return MDN_OK;
}

void
mdn_windows_free(mdn_windows *windows)
{
    if (windows == NULL || windows->pid != getpid())
        return;
    for (uint32_t i = 0; i < windows->opt.live_max; i++)
        free(windows->entries[i].plan);
    pthread_cond_destroy(&windows->planned);
    pthread_mutex_destroy(&windows->lock);
    free(windows);
}

/* The lock is held.  The entry of this window, or NULL. */
static entry *
find(mdn_windows *windows, uint64_t number)
{
    for (uint32_t i = 0; i < windows->opt.live_max; i++) {
        entry *e = &windows->entries[i];

        if (e->uses_left > 0 && e->number == number)
            return e;
    }
    return NULL;
}

/* The lock is held. */
static entry *
find_free(mdn_windows *windows)
{
    entry *e = windows->entries;

    while (e->uses_left > 0) {
        e++;
        assert(e < windows->entries + windows->opt.live_max);
    }
    return e;
}

/* The lock is held, and given up while the plan is made: until then nobody
 * but us touches anything of the entry but its number. */
static entry *
make(mdn_windows *windows, uint64_t number)
{
    entry *e = find_free(windows);
    uint64_t *plan = NULL;
    mdn_error error = {0};
    mdn_status st;

    *e = (entry){.number = number};
    e->uses_left = windows->opt.uses(windows->opt.ctx, number);
    pthread_mutex_unlock(&windows->lock);
    st = windows->opt.plan(windows->opt.ctx, number, &plan, &error);
    pthread_mutex_lock(&windows->lock);
    e->status = st;
    e->plan = plan;
    e->error = error;
    e->ready = true;
    pthread_cond_broadcast(&windows->planned);
    return e;
}

mdn_status
mdn_windows_get(mdn_windows *windows, uint64_t window, const uint64_t **out,
                mdn_error *err)
{
    mdn_status st;
    entry *e;

    pthread_mutex_lock(&windows->lock);
    e = find(windows, window);
    if (e == NULL)
        e = make(windows, window);
    while (!e->ready)
        pthread_cond_wait(&windows->planned, &windows->lock);
    *out = e->plan;
    st = e->status;
    if (st != MDN_OK && err != NULL)
        *err = e->error;
    pthread_mutex_unlock(&windows->lock);
    return st;
}

void
mdn_windows_put(mdn_windows *windows, uint64_t window)
{
    uint64_t *plan = NULL;
    entry *e;

    pthread_mutex_lock(&windows->lock);
    e = find(windows, window);
    assert(e != NULL && e->ready);
    if (--e->uses_left == 0) {
        plan = e->plan;
        e->plan = NULL;
    }
    pthread_mutex_unlock(&windows->lock);
    free(plan);
}
