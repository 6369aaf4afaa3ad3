/* check.c - all of a dataset held against its checksums.
 *
 *     manifest    the survey; a reach slot is a finding, too
 *     journals    from the first entry to the mark of the last good commit
 *     segments    by workers, which take them one by one in ascending order;
 *                 their findings are kept until all are done, then sorted
 *     strays      what else is in the directory
 *
 * The calling thread waits meanwhile and asks the pulse: a worker could not,
 * since the pulse may need what only this thread has (the GIL). */
#include "storage/check.h"

#include "storage/journal.h"
#include "storage/strays.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define TEXT_SIZE 256
#define WAIT_NS 50000000 /* between two questions of the pulse */
#define WORKERS_MAX 64

typedef unsigned long long ull;

const char *
mdn_found_name(mdn_found what)
{
    switch (what) { /* no default: -Wswitch rejects a missing case */
    case MDN_FOUND_HEADER: return "header";
    case MDN_FOUND_REACH: return "reach";
    case MDN_FOUND_COMMIT: return "commit";
    case MDN_FOUND_ENTRY: return "entry";
    case MDN_FOUND_MISSING: return "missing";
    case MDN_FOUND_TRUNCATED: return "truncated";
    case MDN_FOUND_BLOCK: return "block";
    case MDN_FOUND_LINK: return "link";
    case MDN_FOUND_STRAY: return "stray";
    }
    return "?";
}

/* A finding of a segment, on its own. */
typedef struct {
    mdn_finding finding;
    uint64_t segment, order; /* sort by these */
    char *file;              /* owned */
    char text[TEXT_SIZE];
} kept;

typedef struct {
    /* Written before the workers start. */
    mdn_subject subject;
    uint64_t segments;
    atomic_bool cancelled;
    atomic_uint_fast64_t next; /* segment to be taken */
    pthread_mutex_t lock;
    pthread_cond_t ended;
    /* Guarded by lock. */
    uint32_t working;
    kept *list;
    uint64_t count, room, more;
    mdn_checked checked;
    mdn_status st; /* of the first worker that failed */
    mdn_error error;
} crew;

/* One worker's place in its segment. */
typedef struct {
    crew *crew;
    uint64_t segment, order;
} place;

typedef struct {
    mdn_finding_visit visit;
    void *ctx;
    const mdn_pulse *pulse;
    mdn_check_report *report;
    bool events_told; /* a finding says why the history is not whole */
} caller;

static mdn_status
tell(caller *c, const mdn_finding *finding, mdn_error *err)
{
    c->report->findings++;
    return c->visit(c->ctx, finding, err);
}

static mdn_status
tell_all(void *ctx, const mdn_finding *finding, mdn_error *err)
{
    return tell(ctx, finding, err);
}

/* Segments. */

static mdn_status
keep(void *ctx, const mdn_finding *finding, mdn_error *err)
{
    place *p = ctx;
    crew *c = p->crew;
    mdn_status st = MDN_OK;
    kept *k;

    pthread_mutex_lock(&c->lock);
    if (c->count == MDN_FINDINGS_MAX) {
        c->more++;
        goto done;
    }
    if (c->count == c->room) {
        uint64_t room = c->room ? 2 * c->room : 16;
        kept *grown = realloc(c->list, room * sizeof *grown);

        if (grown == NULL) {
            st = mdn_fail_nomem(err, room * sizeof *grown);
            goto done;
        }
        c->list = grown;
        c->room = room;
    }
    k = &c->list[c->count];
    *k = (kept){.finding = *finding,
                .segment = p->segment,
                .order = p->order++,
                .file = strdup(finding->file)};
    if (k->file == NULL) {
        st = mdn_fail_nomem(err, 64);
        goto done;
    }
    c->count++;
    snprintf(k->text, sizeof k->text, "%s", finding->text);
done:
    pthread_mutex_unlock(&c->lock);
    return st;
}

static int
by_place(const void *a, const void *b)
{
    const kept *x = a, *y = b;

    if (x->segment != y->segment)
        return x->segment < y->segment ? -1 : 1;
    return x->order < y->order ? -1 : x->order > y->order;
}

static void *
work(void *ctx)
{
    crew *c = ctx;
    mdn_checked checked = {0, 0};
    mdn_error error = {.status = MDN_OK};
    mdn_status st = MDN_OK;

    while (st == MDN_OK && !atomic_load(&c->cancelled)) {
        place p = {.crew = c, .segment = atomic_fetch_add(&c->next, 1)};

        if (p.segment >= c->segments)
            break;
        st = mdn_check_segment(&c->subject, p.segment, keep, &p, &checked,
                               &error);
    }
    if (st != MDN_OK)
        atomic_store(&c->cancelled, true);
    pthread_mutex_lock(&c->lock);
    c->checked.blocks += checked.blocks;
    c->checked.bytes += checked.bytes;
    if (st != MDN_OK && st != MDN_CANCELLED && c->st == MDN_OK) {
        c->st = st;
        c->error = error;
    }
    c->working--;
    pthread_cond_signal(&c->ended);
    pthread_mutex_unlock(&c->lock);
    return NULL;
}

/* Until no worker is left; what the pulse says ends them early. */
static mdn_status
wait_for(crew *c, const mdn_pulse *pulse, mdn_error *err)
{
    mdn_status st = MDN_OK;
    bool working = true;

    while (working) {
        struct timespec until;

        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_nsec += WAIT_NS;
        until.tv_sec += until.tv_nsec / 1000000000;
        until.tv_nsec %= 1000000000;
        pthread_mutex_lock(&c->lock);
        if (c->working > 0)
            pthread_cond_timedwait(&c->ended, &c->lock, &until);
        working = c->working > 0;
        pthread_mutex_unlock(&c->lock);
        if (st == MDN_OK && (st = mdn_pulse_ask(pulse, err)) != MDN_OK)
            atomic_store(&c->cancelled, true);
    }
    return st;
}

static mdn_status
run_workers(crew *c, uint32_t threads, const mdn_pulse *pulse, mdn_error *err)
{
    pthread_t workers[WORKERS_MAX];
    uint32_t started = 0;
    mdn_status st;

    if (threads > WORKERS_MAX)
        threads = WORKERS_MAX;
    if (threads > c->segments)
        threads = (uint32_t)c->segments;
    c->working = threads;
    while (started < threads
           && pthread_create(&workers[started], NULL, work, c) == 0)
        started++;
    pthread_mutex_lock(&c->lock);
    c->working -= threads - started;
    pthread_mutex_unlock(&c->lock);
    st = wait_for(c, pulse, err);
    for (uint32_t i = 0; i < started; i++)
        pthread_join(workers[i], NULL);
    if (st == MDN_OK && started == 0 && c->segments > 0)
        st = mdn_fail_errno(err, EAGAIN, "%s: no thread can be started",
                            c->subject.path);
    if (st == MDN_OK && c->st != MDN_OK) {
        st = c->st;
        if (err != NULL)
            *err = c->error;
    }
    return st;
}

static mdn_status
check_segments(const mdn_subject *subject, uint64_t segments, uint32_t threads,
               caller *who, mdn_error *err)
{
    crew c = {.subject = *subject, .segments = segments};
    pthread_condattr_t attributes;
    mdn_status st;

    c.subject.cancelled = &c.cancelled;
    atomic_init(&c.cancelled, false);
    atomic_init(&c.next, 0);
    pthread_mutex_init(&c.lock, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&c.ended, &attributes);
    pthread_condattr_destroy(&attributes);
    st = run_workers(&c, threads, who->pulse, err);
    if (c.count > 0)
        qsort(c.list, c.count, sizeof *c.list, by_place);
    for (uint64_t i = 0; i < c.count; i++) {
        c.list[i].finding.file = c.list[i].file;
        c.list[i].finding.text = c.list[i].text;
        if (st == MDN_OK)
            st = tell(who, &c.list[i].finding, err);
        free(c.list[i].file);
    }
    who->report->checked = c.checked;
    who->report->more = c.more;
    who->report->findings += c.more;
    free(c.list);
    pthread_cond_destroy(&c.ended);
    pthread_mutex_destroy(&c.lock);
    return st;
}

/* The manifest. */

typedef struct {
    caller *who;
    uint64_t bad_first, bad_count; /* records next to each other */
} commits;

static mdn_status
tell_commits(commits *c, const char *text, mdn_error *err)
{
    mdn_finding finding = {.what = MDN_FOUND_COMMIT,
                           .file = "manifest",
                           .number = c->bad_first,
                           .number_count = c->bad_count,
                           .text = text};

    if (c->bad_count == 0)
        return MDN_OK;
    c->bad_count = 0;
    return tell(c->who, &finding, err);
}

static mdn_status
take_record(void *ctx, uint64_t sequence, const uint8_t *record,
            const mdn_tail *tail, mdn_error *err)
{
    commits *c = ctx;

    (void)record;
    if (tail != NULL)
        return tell_commits(c, "damaged; a later commit covers its samples",
                            err);
    if (c->bad_count++ == 0)
        c->bad_first = sequence;
    return MDN_OK;
}

static mdn_status
check_manifest(mdn_survey *survey, caller *who, mdn_error *err)
{
    commits c = {.who = who};
    mdn_status st = MDN_OK;

    for (int slot = 0; slot < 2 && st == MDN_OK; slot++) {
        mdn_finding finding = {.what = MDN_FOUND_REACH,
                               .file = "manifest",
                               .number = (uint64_t)slot,
                               .number_count = 1,
                               .text = "damaged"};

        if (survey->slots[slot] == MDN_REACH_DAMAGED)
            st = tell(who, &finding, err);
    }
    if (st == MDN_OK)
        st = mdn_survey_records(survey, take_record, &c, err);
    if (st == MDN_OK && survey->lost > 0) {
        c.bad_first = survey->last + 1;
        c.bad_count = survey->lost;
        st = tell_commits(&c,
                          survey->reach > survey->last
                              ? "damaged or missing; it was made, and no "
                                "later commit covers its samples"
                              : "not whole, and whether it was made cannot be "
                                "known since a reach slot is damaged",
                          err);
    }
    return st;
}

/* Journals. */

static mdn_status
ignore_entry(void *ctx, const mdn_entry *entry, mdn_error *err)
{
    (void)err;
    *(uint64_t *)ctx = entry->number;
    return MDN_OK;
}

static mdn_status
check_journal(const mdn_survey *survey, const mdn_io *io, const char *path,
              mdn_journal_kind which, caller *who, mdn_error *err)
{
    const mdn_mark nothing = {.size_bytes = 0};
    const mdn_mark *to = &survey->tail.journal[which];
    mdn_finding finding = {.what = MDN_FOUND_ENTRY,
                           .file = mdn_journal_name(which),
                           .number_count = 1};
    uint64_t entries = 0;
    mdn_error inner = {.status = MDN_OK};
    const char *text;
    mdn_status st = mdn_journal_read(io, path, &survey->layout, which, &nothing,
                                     to, 0, ignore_entry, &entries, &inner);

    who->report->entries += entries;
    if (st == MDN_OK)
        return MDN_OK;
    if (st == MDN_NOMEM) {
        if (err != NULL)
            *err = inner;
        return st;
    }
    finding.number = entries + 1;
    if (st == MDN_IO && inner.sys_errno == ENOENT)
        finding.what = MDN_FOUND_MISSING;
    else if (strstr(inner.message, "header") != NULL)
        finding.what = MDN_FOUND_HEADER;
    text = strstr(inner.message, finding.file);
    finding.text = finding.what == MDN_FOUND_MISSING ? "missing"
                   : text ? text + strlen(finding.file) + 2
                          : inner.message;
    if (finding.what != MDN_FOUND_ENTRY)
        finding.number = finding.number_count = 0;
    who->events_told = who->events_told || which == MDN_EVENTS;
    return tell(who, &finding, err);
}

mdn_status
mdn_check_history(const mdn_survey *survey, const mdn_io *io, const char *path,
                  mdn_history **out, mdn_error *why, mdn_error *err)
{
    const mdn_mark nothing = {.size_bytes = 0};
    mdn_tail tail = survey->tail;
    mdn_mark *mark = &tail.journal[MDN_EVENTS];
    uint64_t entries = 0;
    mdn_history *none;
    mdn_status st = mdn_history_new(&none, err);

    *out = NULL;
    *why = (mdn_error){.status = MDN_OK};
    if (st != MDN_OK)
        return st;
    st = mdn_history_extend(none, io, path, &survey->layout, &tail, out, why);
    if (st != MDN_OK && st != MDN_NOMEM) {
        st = mdn_journal_scan(io, path, &survey->layout, MDN_EVENTS, &nothing,
                              survey->tail.journal[MDN_EVENTS].size_bytes,
                              &entries, NULL, NULL, mark, err);
        if (st == MDN_OK)
            st = mdn_history_extend(none, io, path, &survey->layout, &tail, out,
                                    err);
        if (st == MDN_CORRUPT || st == MDN_UNSUPPORTED || st == MDN_IO) {
            *out = none; /* a whole entry that makes no sense, or the header */
            return MDN_OK;
        }
    }
    mdn_history_release(none);
    return st;
}

/* Entries that are whole, and that no writer can have written. */
static mdn_status
tell_nonsense(caller *who, const mdn_error *why, mdn_error *err)
{
    const char *text = strstr(why->message, "/events: ");
    mdn_finding finding = {.what = MDN_FOUND_ENTRY,
                           .file = "events",
                           .text = text ? text + 9 : why->message};

    return tell(who, &finding, err);
}

static mdn_status
check_rest(mdn_survey *survey, const mdn_io *io, const char *path,
           uint32_t threads, caller *who, mdn_error *err)
{
    uint64_t rows = UINT64_C(1) << survey->layout.segment_shift;
    mdn_subject subject = {.io = io,
                           .path = path,
                           .layout = &survey->layout,
                           .schema = survey->schema,
                           .tail = &survey->tail};
    mdn_history *history;
    mdn_error why;
    mdn_status st = mdn_check_history(survey, io, path, &history, &why, err);

    if (st != MDN_OK)
        return st;
    subject.history = history;
    subject.blind = why.status != MDN_OK;
    if (subject.blind && !who->events_told)
        st = tell_nonsense(who, &why, err);
    who->report->erased = history->erased_count;
    who->report->segments = (survey->tail.count + rows - 1) / rows;
    if (st == MDN_OK)
        st = check_segments(&subject, who->report->segments, threads, who, err);
    if (st == MDN_OK)
        st = mdn_check_strays(&subject, tell_all, who, err);
    mdn_history_release(history);
    return st;
}

/* Nothing can be read without the header. */
static mdn_status
tell_header(const char *path, mdn_status st, const mdn_error *why, caller *who,
            mdn_error *err)
{
    const char *text = strstr(why->message, "/manifest: ");
    mdn_finding finding = {.what = MDN_FOUND_HEADER,
                           .file = "manifest",
                           .text = text ? text + 11 : why->message};

    (void)path;
    if (st == MDN_CORRUPT || st == MDN_UNSUPPORTED)
        return tell(who, &finding, err);
    if (err != NULL)
        *err = *why;
    return st;
}

mdn_status
mdn_check_dataset(const mdn_io *io, const char *path, uint32_t threads,
                  mdn_finding_visit visit, void *ctx, const mdn_pulse *pulse,
                  mdn_check_report *out, mdn_error *err)
{
    caller who = {visit, ctx, pulse, out, false};
    mdn_error inner = {.status = MDN_OK};
    mdn_survey survey;
    mdn_status st;

    *out = (mdn_check_report){.commits = 0};
    st = mdn_survey_open(io, path, &survey, &inner);
    if (st != MDN_OK)
        return tell_header(path, st, &inner, &who, err);
    out->commits = survey.last;
    out->samples = survey.tail.count;
    st = check_manifest(&survey, &who, err);
    for (int j = 0; j < MDN_JOURNALS && st == MDN_OK; j++)
        st = check_journal(&survey, io, path, (mdn_journal_kind)j, &who, err);
    if (st == MDN_OK)
        st = check_rest(&survey, io, path, threads, &who, err);
    mdn_survey_close(&survey);
    return st;
}
