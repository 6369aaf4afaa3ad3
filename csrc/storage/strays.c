/* strays.c - which names belong into the directory of a dataset. */
#include "storage/strays.h"

#include "storage/journal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    char **names; /* owned */
    uint64_t count, room;
    bool failed;
} listing;

static void
add_name(void *ctx, const char *name)
{
    listing *l = ctx;

    if (l->count == l->room && !l->failed) {
        uint64_t room = l->room ? 2 * l->room : 64;
        char **grown = realloc(l->names, room * sizeof *l->names);

        l->failed = grown == NULL;
        if (grown != NULL) {
            l->names = grown;
            l->room = room;
        }
    }
    if (!l->failed && (l->names[l->count] = strdup(name)) != NULL)
        l->count++;
    else
        l->failed = true;
}

static void
clear(listing *l)
{
    for (uint64_t i = 0; i < l->count; i++)
        free(l->names[i]);
    l->count = 0;
}

static int
by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Digits at *at, as they are written by us; at least `least` of them. */
static bool
read_number(const char **at, int least, uint64_t *out)
{
    int digits = 0;

    *out = 0;
    for (; **at >= '0' && **at <= '9'; (*at)++, digits++) {
        if (*out > UINT64_MAX / 10 - 1)
            return false;
        *out = *out * 10 + (uint64_t)(**at - '0');
    }
    return digits >= least;
}

/* Whether a name is one that a segment's file may have. */
static bool
parse(const char *name, uint64_t *segment, uint64_t *generation)
{
    const char *at = name;
    char right[64];

    *generation = 0;
    if (!read_number(&at, 6, segment))
        return false;
    if (*at == '-') {
        at++;
        if (!read_number(&at, 1, generation) || *generation == 0)
            return false;
    }
    if (strcmp(at, ".seg") != 0 && strcmp(at, ".col") != 0)
        return false;
    if (*generation == 0)
        snprintf(right, sizeof right, "%06llu%s", (unsigned long long)*segment,
                 at);
    else
        snprintf(right, sizeof right, "%06llu-%llu%s",
                 (unsigned long long)*segment, (unsigned long long)*generation,
                 at);
    return strcmp(name, right) == 0;
}

/* NULL: the file belongs here. */
static const char *
judge_segment(const mdn_subject *s, uint64_t segment, uint64_t generation)
{
    uint64_t right = mdn_history_generation(s->history, segment);
    uint64_t rows = UINT64_C(1) << s->layout->segment_shift;

    if (s->blind)
        return NULL;
    if (generation > right)
        return "written by a compaction that was interrupted or is under way; "
               "the next writer removes what is left";
    if (generation < right)
        return "replaced by a compaction: bytes of erased samples may be in "
               "it; the next writer removes it";
    if (segment >= (s->tail->count + rows - 1) / rows)
        return "written for a commit that never came; later ones use it again";
    return NULL;
}

static bool
has_prefix(const char *name, const char *prefix)
{
    return strncmp(name, prefix, strlen(prefix)) == 0;
}

static bool
has_suffix(const char *name, const char *suffix)
{
    size_t size = strlen(name), end = strlen(suffix);

    return size >= end && strcmp(name + size - end, suffix) == 0;
}

static const char *
judge(const mdn_subject *s, const char *name)
{
    static const char *const known[] = {"manifest", "lock", "time.order",
                                        "time.order.lock"};
    uint64_t segment, generation;

    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        if (strcmp(name, known[i]) == 0)
            return NULL;
    }
    for (int j = 0; j < MDN_JOURNALS; j++) {
        if (strcmp(name, mdn_journal_name((mdn_journal_kind)j)) == 0)
            return s->tail->journal[j].size_bytes > 0
                       ? NULL
                       : "written for a commit that never came; later ones "
                         "use it again";
    }
    if (parse(name, &segment, &generation))
        return judge_segment(s, segment, generation);
    if (has_prefix(name, "manifest.before-repair-"))
        return has_suffix(name, ".tmp") ? "left by a process that died" : NULL;
    if (has_suffix(name, ".tmp"))
        return "left by a process that died, or being written";
    return "not a name that modyn gives";
}

mdn_status
mdn_check_strays(const mdn_subject *subject, mdn_finding_visit visit, void *ctx,
                 mdn_error *err)
{
    listing l = {.names = NULL};
    mdn_status st = MDN_OK;
    int result;

    do {
        clear(&l);
        result =
            subject->io->list(subject->io->self, subject->path, add_name, &l);
    } while (result == -EINTR);
    if (result < 0)
        st =
            mdn_fail_errno(err, -result, "%s: cannot be listed", subject->path);
    else if (l.failed)
        st = mdn_fail_nomem(err, 64);
    if (l.count > 0)
        qsort(l.names, l.count, sizeof *l.names, by_name);
    for (uint64_t i = 0; i < l.count; i++) {
        mdn_finding finding = {.what = MDN_FOUND_STRAY, .file = l.names[i]};

        finding.text = st == MDN_OK ? judge(subject, l.names[i]) : NULL;
        if (finding.text != NULL)
            st = visit(ctx, &finding, err);
    }
    clear(&l);
    free(l.names);
    return st;
}
