/* repair_plan.h - a repair from the inside, for the files that plan it. */
#ifndef MDN_STORAGE_REPAIR_PLAN_H
#define MDN_STORAGE_REPAIR_PLAN_H

#include "storage/history.h"
#include "storage/repair.h"
#include "storage/survey.h"

/* A good record, as it stands in the file and as it will be. */
typedef struct {
    uint8_t bytes[MDN_RECORD_SIZE];
    mdn_tail tail;
    uint64_t sequence; /* in the old manifest */
} mdn_good;

typedef struct {
    const mdn_io *io;
    const char *path;
    const mdn_repair_options *options;
    mdn_step_visit visit;
    void *ctx;
    mdn_survey survey;
    const mdn_layout *layout; /* of the survey */
    mdn_good *records;        /* owned */
    uint64_t count, room;
    mdn_tail tail;        /* as it will be */
    mdn_history *history; /* of that */
    bool extra;           /* tail needs a record of its own */
    bool rewrite;         /* the manifest is to be written anew */
    bool mend_header[MDN_JOURNALS];
    bool create_last; /* files of the last segment, if they are missing */
    bool orphans_end; /* an entry of lost commits did not apply */
    bool unplanned;   /* of a dry run: the rest cannot be known yet */
} mdn_repairing;

mdn_status mdn_repair_tell(mdn_repairing *r, mdn_step_kind kind,
                           const char *file, const char *text, mdn_error *err);

/* Events must be whole; those that lost commits had named are taken on.  From
 * here on r->history is known, unless r->unplanned. */
mdn_status mdn_repair_plan_events(mdn_repairing *r, mdn_error *err);
/* Sources are cut, if that is allowed. */
mdn_status mdn_repair_plan_sources(mdn_repairing *r, mdn_error *err);

#endif
