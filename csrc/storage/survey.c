/* survey.c - reading a manifest from its first to its last byte. */
#include "storage/survey.h"

#include <stdlib.h>
#include <string.h>

#define SECTOR 512
#define READ_RECORDS 512 /* at a time */
#define LOOKS 3          /* at a manifest in which something seems wrong */

typedef struct {
    const mdn_layout *layout;
    uint64_t whole; /* the last whole one so far, and */
    uint64_t good;  /* the last good one */
    uint64_t count; /* of good ones */
    uint32_t check;
    mdn_tail tail;
} walk;

/* Whether the record of this number is good; then it is the last one. */
static bool
take(walk *w, const uint8_t *record, uint64_t sequence)
{
    mdn_tail next;

    if (!mdn_record_is_whole(w->layout, record, sequence))
        return false;
    w->whole = sequence;
    mdn_record_load(record, &next);
    if (!mdn_record_follows(w->layout, &w->tail, &next)
        || (sequence == w->good + 1 && mdn_record_chain(record) != w->check))
        return false;
    w->good = sequence;
    w->count++;
    w->check = mdn_record_check(record);
    w->tail = next;
    return true;
}

static mdn_status
fail_unknown(const mdn_survey *survey, const uint8_t *record, uint64_t sequence,
             mdn_error *err)
{
    return mdn_fail(err, MDN_UNSUPPORTED,
                    "%s: record %llu is of kind %u, which this modyn does not "
                    "know",
                    survey->manifest.file.path, (unsigned long long)sequence,
                    mdn_record_kind(record));
}

/* Look at `count` records, visit them if there is a visit. */
static mdn_status
walk_records(mdn_survey *survey, uint64_t count, walk *w,
             mdn_survey_visit visit, void *ctx, mdn_error *err)
{
    uint8_t *buffer = malloc(READ_RECORDS * MDN_RECORD_SIZE);
    uint64_t done = 0;
    mdn_status st = MDN_OK;

    if (buffer == NULL)
        return mdn_fail_nomem(err, READ_RECORDS * MDN_RECORD_SIZE);
    while (st == MDN_OK && done < count) {
        uint64_t n = count - done < READ_RECORDS ? count - done : READ_RECORDS;

        st = mdn_file_read(&survey->manifest.file, buffer, n * MDN_RECORD_SIZE,
                           survey->manifest.records_at + done * MDN_RECORD_SIZE,
                           err);
        for (uint64_t i = 0; i < n && st == MDN_OK; i++) {
            const uint8_t *record = buffer + i * MDN_RECORD_SIZE;
            uint64_t sequence = done + i + 1;
            bool good;

            if (mdn_record_is_whole(&survey->layout, record, sequence)
                && !mdn_record_is_known(record)) {
                st = fail_unknown(survey, record, sequence, err);
                break;
            }
            good = take(w, record, sequence);
            if (visit != NULL)
                st = visit(ctx, sequence, record, good ? &w->tail : NULL, err);
        }
        done += n;
    }
    free(buffer);
    return st;
}

static mdn_status
read_slots(mdn_survey *survey, mdn_error *err)
{
    uint8_t slots[2 * SECTOR];
    mdn_status st;

    survey->reach = 0;
    st =
        mdn_file_read(&survey->manifest.file, slots, sizeof slots, SECTOR, err);
    for (int i = 0; i < 2 && st == MDN_OK; i++) {
        uint64_t sequence;

        survey->slots[i] =
            mdn_reach_load(&survey->layout, slots + i * SECTOR, &sequence);
        if (sequence > survey->reach)
            survey->reach = sequence;
    }
    return st;
}

/* As the format says: a record that is not whole was promised by the reach, or
 * a slot that might have spoken of it is damaged. */
static mdn_status
look(mdn_survey *survey, mdn_error *err)
{
    walk w = {.layout = &survey->layout, .check = survey->manifest.chain};
    uint64_t size, end, made;
    mdn_status st = read_slots(survey, err);

    if (st == MDN_OK)
        st = mdn_file_size(&survey->manifest.file, &size, err);
    if (st != MDN_OK)
        return st;
    survey->present =
        size < survey->manifest.records_at
            ? 0
            : (size - survey->manifest.records_at) / MDN_RECORD_SIZE;
    st = walk_records(survey, survey->present, &w, NULL, NULL, err);
    if (st != MDN_OK)
        return st;
    survey->last = w.good;
    survey->bad = w.good - w.count;
    survey->last_check = w.check;
    survey->tail = w.tail;
    end = survey->manifest.records_at + w.good * MDN_RECORD_SIZE;
    /* A record that is whole was written by a commit, also if it cannot have
     * followed those that are there. */
    made = survey->reach > w.whole ? survey->reach : w.whole;
    survey->lost = made > w.good ? made - w.good : 0;
    if (survey->lost == 0 && size >= end + MDN_RECORD_SIZE
        && (survey->slots[0] == MDN_REACH_DAMAGED
            || survey->slots[1] == MDN_REACH_DAMAGED))
        survey->lost = 1;
    survey->torn = survey->lost == 0 && size > end;
    return MDN_OK;
}

mdn_status
mdn_survey_records(mdn_survey *survey, mdn_survey_visit visit, void *ctx,
                   mdn_error *err)
{
    walk w = {.layout = &survey->layout, .check = survey->manifest.chain};

    return walk_records(survey, survey->last, &w, visit, ctx, err);
}

mdn_status
mdn_survey_open(const mdn_io *io, const char *directory, mdn_survey *out,
                mdn_error *err)
{
    mdn_status st;

    *out = MDN_SURVEY_CLOSED;
    st = mdn_manifest_open(io, directory, false, &out->manifest, &out->layout,
                           &out->schema, err);
    /* What a writer is doing at this moment may look like damage. */
    for (int looks = 0; looks < LOOKS && st == MDN_OK; looks++) {
        st = look(out, err);
        if (out->bad == 0 && out->lost == 0)
            break;
    }
    if (st != MDN_OK)
        mdn_survey_close(out);
    return st;
}

void
mdn_survey_close(mdn_survey *survey)
{
    mdn_manifest_close(&survey->manifest);
    mdn_schema_free(survey->schema);
    survey->schema = NULL;
}
