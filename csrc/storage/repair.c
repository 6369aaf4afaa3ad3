/* repair.c - planning, saying and doing what makes a dataset open again.
 *
 *     survey       which records are good
 *     journals     events must be whole; those that a lost commit had named
 *                  are taken on
 *     commits      from the end: are the rows of each still there?
 *     segments     headers and lengths of files
 *     manifest     written anew, under another name and then renamed
 *
 * All of it is planned and told first.  Then headers and lengths are put right,
 * which shows nothing that was not committed, and the rename comes last. */
#include "storage/repair.h"

#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/file.h"
#include "storage/handle.h"
#include "storage/mend.h"
#include "storage/repair_plan.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SECTOR 512
#define TEXT_SIZE 256
#define NAME_SIZE 64
#define HEADER_CRC_AT 508 /* of the manifest */
#define SCHEMA_AT (3 * SECTOR)

typedef unsigned long long ull;

const char *
mdn_step_name(mdn_step_kind kind)
{
    switch (kind) { /* no default: -Wswitch rejects a missing case */
    case MDN_STEP_HEADER: return "header";
    case MDN_STEP_EXTENDED: return "extended";
    case MDN_STEP_LOST: return "lost";
    case MDN_STEP_GIVEN_UP: return "given up";
    case MDN_STEP_KEPT: return "kept";
    case MDN_STEP_EVENTS: return "events";
    case MDN_STEP_SOURCES: return "sources";
    case MDN_STEP_MANIFEST: return "manifest";
    case MDN_STEP_LEFT: return "left";
    }
    return "?";
}

mdn_status
mdn_repair_tell(mdn_repairing *r, mdn_step_kind kind, const char *file,
                const char *text, mdn_error *err)
{
    mdn_step step = {.kind = kind, .file = file, .text = text};

    return r->visit(r->ctx, &step, err);
}

static uint64_t
row_count(const mdn_repairing *r)
{
    return UINT64_C(1) << r->layout->segment_shift;
}

/* The manifest. */

static mdn_status
take_record(void *ctx, uint64_t sequence, const uint8_t *record,
            const mdn_tail *tail, mdn_error *err)
{
    mdn_repairing *r = ctx;
    mdn_good *g;

    if (tail == NULL)
        return MDN_OK;
    if (r->count == r->room) {
        uint64_t room = r->room ? 2 * r->room : 64;
        mdn_good *grown = realloc(r->records, room * sizeof *grown);

        if (grown == NULL)
            return mdn_fail_nomem(err, room * sizeof *grown);
        r->records = grown;
        r->room = room;
    }
    g = &r->records[r->count++];
    memcpy(g->bytes, record, MDN_RECORD_SIZE);
    g->tail = *tail;
    g->sequence = sequence;
    return MDN_OK;
}

static mdn_status
plan_manifest(mdn_repairing *r, mdn_error *err)
{
    const mdn_survey *s = &r->survey;
    mdn_step step = {.kind = MDN_STEP_LOST,
                     .file = "manifest",
                     .number = s->last + 1,
                     .number_count = s->lost,
                     .text = "the record is damaged and no later one covers "
                             "the samples of the commit"};
    mdn_status st = mdn_survey_records(&r->survey, take_record, r, err);

    r->tail = s->tail;
    r->rewrite = s->bad > 0 || s->lost > 0 || s->slots[0] == MDN_REACH_DAMAGED
                 || s->slots[1] == MDN_REACH_DAMAGED;
    if (st == MDN_OK && r->count != s->last - s->bad)
        st = mdn_fail(err, MDN_CORRUPT,
                      "%s: reads differently from one time to the next; "
                      "nothing was repaired",
                      s->manifest.file.path);
    if (st == MDN_OK && s->lost > 0)
        st = r->visit(r->ctx, &step, err);
    return st;
}

/* Commits whose rows are gone. */

static mdn_mending
place_of(const mdn_repairing *r, const mdn_tail *tail, uint64_t segment)
{
    uint64_t left = tail->count - (segment << r->layout->segment_shift);

    return (mdn_mending){
        .io = r->io,
        .path = r->path,
        .layout = r->layout,
        .segment = segment,
        .generation = mdn_history_generation(r->history, segment),
        .rows = left < row_count(r) ? left : row_count(r),
        .bytes = left < row_count(r) ? tail->segment_bytes : 0,
        .linked = mdn_history_link(r->history, segment) != NULL,
    };
}

/* Whether the rows of keys first to end - 1 are there. */
static mdn_status
rows_are_there(mdn_repairing *r, uint64_t first, uint64_t end, bool *there,
               mdn_error *err)
{
    uint64_t shift = r->layout->segment_shift;

    *there = true;
    for (uint64_t s = first >> shift; *there && s << shift < end; s++) {
        mdn_mending place = place_of(r, &r->tail, s);
        uint64_t rows = end - (s << shift);
        mdn_condition c;
        mdn_status st = mdn_mend_look(&place, &c, err);

        if (st != MDN_OK)
            return st;
        if (rows > row_count(r))
            rows = row_count(r);
        *there = c.rows_there >= rows;
    }
    return MDN_OK;
}

/* Nothing but appends after record `at` - 1: giving those up takes no erasure
 * back. */
static bool
may_give_up(const mdn_repairing *r, uint64_t at)
{
    uint64_t size =
        at == 0 ? 0 : r->records[at - 1].tail.journal[MDN_EVENTS].size_bytes;

    return size == r->tail.journal[MDN_EVENTS].size_bytes;
}

static mdn_status
tell_commits(mdn_repairing *r, uint64_t keep, mdn_error *err)
{
    uint64_t before = keep == 0 ? 0 : r->records[keep - 1].tail.count;
    mdn_step step = {
        .kind = MDN_STEP_GIVEN_UP,
        .file = "manifest",
        .number = r->records[keep].sequence,
        .number_count = r->survey.last - r->records[keep].sequence + 1,
        .first_key = before,
        .key_count = r->tail.count - before,
        .text = "their rows are not all in the files any more",
    };

    return r->visit(r->ctx, &step, err);
}

/* The rows of the last commits are gone, and later erasures forbid to give them
 * up: they stay, damaged. */
static mdn_status
keep_rows(mdn_repairing *r, uint64_t first, uint64_t end, mdn_error *err)
{
    mdn_step step = {
        .kind = MDN_STEP_KEPT,
        .file = "manifest",
        .first_key = first,
        .key_count = end - first,
        .text = "rows of these are not in the files any more; the commit "
                "stays, since samples were erased or compacted after it, and "
                "reading them fails",
    };

    r->create_last = true;
    return r->visit(r->ctx, &step, err);
}

static mdn_status
plan_commits(mdn_repairing *r, mdn_error *err)
{
    uint64_t keep = r->count;

    for (uint64_t i = r->count; i > 0; i--) {
        uint64_t first = i == 1 ? 0 : r->records[i - 2].tail.count;
        uint64_t end = r->records[i - 1].tail.count;
        bool there;
        mdn_status st;

        if (first == end)
            continue;
        if ((st = rows_are_there(r, first, end, &there, err)) != MDN_OK)
            return st;
        if (there)
            break;
        if (r->extra || !may_give_up(r, i - 1)) {
            st = keep_rows(r, first, end, err);
            if (st != MDN_OK)
                return st;
            break;
        }
        keep = i - 1;
    }
    if (keep < r->count) {
        mdn_status st = tell_commits(r, keep, err);

        r->count = keep;
        r->tail =
            keep == 0 ? (mdn_tail){.count = 0} : r->records[keep - 1].tail;
        r->rewrite = true;
        return st;
    }
    return MDN_OK;
}

/* Segments. */

static mdn_status
tell_segment(mdn_repairing *r, const mdn_mending *place, const mdn_condition *c,
             bool create, mdn_error *err)
{
    mdn_step missing = {.kind = create ? MDN_STEP_EXTENDED : MDN_STEP_LEFT,
                        .first_key = place->segment << r->layout->segment_shift,
                        .key_count = place->rows,
                        .text = create ? "missing; made anew, of zeros"
                                       : "missing"};
    mdn_status st = MDN_OK;

    if (c->foreign)
        st = mdn_repair_tell(
            r, MDN_STEP_LEFT, c->col_name,
            "whole, but of another dataset or segment: was it moved?", err);
    if (st == MDN_OK && c->header_damaged)
        st = mdn_repair_tell(r, MDN_STEP_HEADER, c->col_name,
                             "the header is written anew", err);
    if (st == MDN_OK && c->col_there && c->col_size < r->layout->col_size)
        st = mdn_repair_tell(r, MDN_STEP_EXTENDED, c->col_name,
                             "truncated; what was cut off is zeros now", err);
    if (st == MDN_OK && c->seg_there && c->seg_size < c->needed)
        st = mdn_repair_tell(r, MDN_STEP_EXTENDED, c->seg_name,
                             "truncated; what was cut off is zeros now", err);
    missing.file = c->col_name;
    if (st == MDN_OK && !c->col_there)
        st = r->visit(r->ctx, &missing, err);
    missing.file = c->seg_name;
    if (st == MDN_OK && !c->seg_there)
        st = r->visit(r->ctx, &missing, err);
    return st;
}

/* Tell of all segments, or mend them. */
static mdn_status
go_through_segments(mdn_repairing *r, bool mend, mdn_error *err)
{
    uint64_t rows = row_count(r);
    uint64_t segments = (r->tail.count + rows - 1) / rows;
    mdn_status st = MDN_OK;

    for (uint64_t s = 0; s < segments && st == MDN_OK; s++) {
        mdn_mending place = place_of(r, &r->tail, s);
        bool create = r->create_last && s + 1 == segments;
        mdn_condition c;

        st = mdn_mend_look(&place, &c, err);
        if (st == MDN_OK && mend)
            st = mdn_mend_files(&place, &c, create, err);
        else if (st == MDN_OK)
            st = tell_segment(r, &place, &c, create, err);
    }
    return st;
}

/* The new manifest. */

static mdn_status
read_old(const mdn_repairing *r, uint8_t **out, uint64_t *size, mdn_error *err)
{
    const mdn_file *file = &r->survey.manifest.file;
    mdn_status st = mdn_file_size(file, size, err);

    *out = NULL;
    if (st != MDN_OK)
        return st;
    if ((*out = malloc(*size + 1)) == NULL)
        return mdn_fail_nomem(err, *size);
    st = mdn_file_read(file, *out, *size, 0, err);
    if (st != MDN_OK) {
        free(*out);
        *out = NULL;
    }
    return st;
}

/* What is about to be written again was read right. */
static mdn_status
check_header(const mdn_repairing *r, const uint8_t *old, uint64_t size,
             mdn_error *err)
{
    const mdn_manifest *manifest = &r->survey.manifest;
    uint32_t crc;

    if (size >= manifest->records_at) {
        crc = mdn_crc32c(0, old, HEADER_CRC_AT);
        crc =
            mdn_crc32c(crc, old + SCHEMA_AT, manifest->records_at - SCHEMA_AT);
        if (crc == manifest->chain && crc == mdn_load_u32(old + HEADER_CRC_AT))
            return MDN_OK;
    }
    return mdn_fail(err, MDN_CORRUPT,
                    "%s: reads differently from one time to the next",
                    manifest->file.path);
}

static void
build_slots(const mdn_repairing *r, uint64_t last, uint8_t *content)
{
    memset(content + SECTOR, 0, 2 * SECTOR);
    for (uint64_t n = last > 0 ? last - 1 : 0; n <= last; n++) {
        if (n > 0)
            mdn_reach_build(r->layout, n, content + SECTOR * (1 + n % 2));
    }
}

/* Header and schema as they are, then all good records, numbered and chained
 * anew.  A commit that has become no change, since all that it did was in the
 * part of sources that was cut, is left out. */
static mdn_status
build_new(mdn_repairing *r, const uint8_t *old, uint8_t **out, uint64_t *size,
          mdn_error *err)
{
    uint64_t head = r->survey.manifest.records_at, n = 0;
    uint32_t chain = r->survey.manifest.chain;
    mdn_tail before = {.count = 0};
    uint8_t *at;

    *out = malloc(head + (r->count + 1) * MDN_RECORD_SIZE);
    if (*out == NULL)
        return mdn_fail_nomem(err, head + r->count * MDN_RECORD_SIZE);
    memcpy(*out, old, head);
    at = *out + head;
    for (uint64_t i = 0; i < r->count; i++) {
        if (!mdn_record_follows(r->layout, &before, &r->records[i].tail))
            continue;
        memcpy(at, r->records[i].bytes, MDN_RECORD_SIZE);
        mdn_record_renumber(r->layout, ++n, chain, at);
        chain = mdn_record_check(at);
        before = r->records[i].tail;
        at += MDN_RECORD_SIZE;
    }
    if (r->extra && mdn_record_follows(r->layout, &before, &r->tail)) {
        mdn_record_build(r->layout, ++n, chain, &r->tail, at);
        at += MDN_RECORD_SIZE;
    }
    build_slots(r, n, *out);
    *size = (uint64_t)(at - *out);
    return MDN_OK;
}

/* The first manifest.before-repair-<n> that is not there. */
static mdn_status
find_name(const mdn_repairing *r, char name[NAME_SIZE], mdn_error *err)
{
    for (uint64_t n = 1;; n++) {
        mdn_error inner;
        mdn_file file;
        mdn_status st;
        char *path;

        snprintf(name, NAME_SIZE, "manifest.before-repair-%llu", (ull)n);
        if ((path = mdn_path_join(r->path, name)) == NULL)
            return mdn_fail_nomem(err, 64);
        st = mdn_file_open(r->io, path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK,
                           &file, &inner);
        mdn_file_close(&file);
        free(path);
        if (st == MDN_IO && inner.sys_errno == ENOENT)
            return MDN_OK;
        if (st != MDN_OK) {
            if (err != NULL)
                *err = inner;
            return st;
        }
    }
}

static mdn_status
replace(const mdn_repairing *r, const char *name, const void *content,
        uint64_t size, mdn_error *err)
{
    char *path = mdn_path_join(r->path, name);
    mdn_status st = path == NULL
                        ? mdn_fail_nomem(err, 64)
                        : mdn_file_replace(r->io, path, content, size, err);

    free(path);
    return st;
}

static mdn_status
write_manifest(mdn_repairing *r, const char *backup, mdn_error *err)
{
    uint8_t *old, *new = NULL;
    uint64_t old_size, new_size = 0;
    mdn_status st = read_old(r, &old, &old_size, err);

    if (st == MDN_OK)
        st = check_header(r, old, old_size, err);
    if (st == MDN_OK)
        st = build_new(r, old, &new, &new_size, err);
    if (st == MDN_OK)
        st = replace(r, backup, old, old_size, err);
    if (st == MDN_OK)
        st = replace(r, "manifest", new, new_size, err);
    free(old);
    free(new);
    return st;
}

/* All of it. */

static mdn_status
plan(mdn_repairing *r, char backup[NAME_SIZE], mdn_error *err)
{
    char text[TEXT_SIZE];
    mdn_status st;

    if ((st = plan_manifest(r, err)) != MDN_OK
        || (st = mdn_repair_plan_events(r, err)) != MDN_OK || r->unplanned
        || (st = mdn_repair_plan_sources(r, err)) != MDN_OK
        || (st = plan_commits(r, err)) != MDN_OK
        || (st = go_through_segments(r, false, err)) != MDN_OK)
        return st;
    r->rewrite = r->rewrite || r->extra;
    if (!r->rewrite)
        return MDN_OK;
    if ((st = find_name(r, backup, err)) != MDN_OK)
        return st;
    snprintf(text, sizeof text, "written anew; the old one is kept as %s",
             backup);
    return mdn_repair_tell(r, MDN_STEP_MANIFEST, "manifest", text, err);
}

static mdn_status
apply(mdn_repairing *r, const char *backup, mdn_error *err)
{
    mdn_status st = MDN_OK;

    for (int j = 0; j < MDN_JOURNALS && st == MDN_OK; j++) {
        if (r->mend_header[j])
            st = mdn_journal_write_header(r->io, r->path, r->layout,
                                          (mdn_journal_kind)j, err);
    }
    if (st == MDN_OK)
        st = go_through_segments(r, true, err);
    if (st == MDN_OK)
        st = mdn_dir_sync(r->io, r->path, err);
    if (st == MDN_OK && r->rewrite)
        st = write_manifest(r, backup, err);
    return st;
}

static mdn_status
open_survey(mdn_repairing *r, mdn_error *err)
{
    mdn_error inner = {.status = MDN_OK};
    mdn_status st = mdn_survey_open(r->io, r->path, &r->survey, &inner);

    r->layout = &r->survey.layout;
    if (st == MDN_CORRUPT)
        return mdn_fail(err, st,
                        "%.380s; without it nothing can be read: put back a "
                        "copy of the manifest",
                        inner.message);
    if (st != MDN_OK && err != NULL)
        *err = inner;
    return st;
}

mdn_status
mdn_repair_dataset(const mdn_io *io, const char *path,
                   const mdn_repair_options *options, mdn_step_visit visit,
                   void *ctx, mdn_error *err)
{
    mdn_repairing r = {.io = io,
                       .path = path,
                       .options = options,
                       .visit = visit,
                       .ctx = ctx,
                       .survey = MDN_SURVEY_CLOSED};
    mdn_dataset *lock = NULL;
    char backup[NAME_SIZE];
    mdn_status st = open_survey(&r, err); /* is there anything to be locked? */

    if (st == MDN_OK && !options->dry_run) {
        mdn_survey_close(&r.survey);
        if ((st = mdn_handle_new(io, path, true, &lock, err)) == MDN_OK
            && (st = mdn_handle_lock(lock, err)) == MDN_OK)
            st = open_survey(&r, err);
    }
    if (st == MDN_OK)
        st = plan(&r, backup, err);
    if (st == MDN_OK && !options->dry_run)
        st = apply(&r, backup, err);
    mdn_survey_close(&r.survey);
    mdn_history_release(r.history);
    free(r.records);
    mdn_dataset_free(lock);
    return st;
}
