/* survey.h - a manifest as it lies there, also where it is damaged.
 *
 * manifest.h reads up to the first record that is not whole and calls damage an
 * error; this reads all of it and says which records are good:
 *
 *     whole (record.h), and one that a writer can have committed after the last
 *     good one; next to it, its chain holds, too
 *
 * Records are cumulative, so the last good one says what the dataset holds,
 * whatever became of those before it. */
#ifndef MDN_STORAGE_SURVEY_H
#define MDN_STORAGE_SURVEY_H

#include "storage/manifest.h"
#include "storage/record.h"

typedef struct {
    mdn_manifest manifest; /* open, with its header read */
    mdn_layout layout;
    mdn_schema *schema; /* owned */

    mdn_reach_state slots[2];
    uint64_t reach;   /* as the slots say */
    uint64_t present; /* records for which there is room in the file */
    uint64_t last;    /* number of the last good record, or 0 */
    uint64_t bad;     /* records before it that are not good */
    uint64_t lost;    /* commits after it that were made */
    bool torn;        /* bytes behind, of a commit that nobody was told of */
    uint32_t last_check;
    mdn_tail tail; /* of the last good record */
} mdn_survey;

#define MDN_SURVEY_CLOSED ((mdn_survey){.manifest = {.file = {.fd = -1}}})

/* Open the manifest and look at all of it.  Fails where the header does: with
 * MDN_CORRUPT, or MDN_UNSUPPORTED, also for a record of an unknown kind. */
mdn_status mdn_survey_open(const mdn_io *io, const char *directory,
                           mdn_survey *out, mdn_error *err);
void mdn_survey_close(mdn_survey *survey); /* accepts MDN_SURVEY_CLOSED */

/* Visit the records up to the last good one, in order: tail is NULL for one
 * that is not good. */
typedef mdn_status (*mdn_survey_visit)(void *ctx, uint64_t sequence,
                                       const uint8_t *record,
                                       const mdn_tail *tail, mdn_error *err);
mdn_status mdn_survey_records(mdn_survey *survey, mdn_survey_visit visit,
                              void *ctx, mdn_error *err);

#endif
