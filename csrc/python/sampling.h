/* sampling.h - what the files that choose among candidates share. */
#ifndef MDN_PYTHON_SAMPLING_H
#define MDN_PYTHON_SAMPLING_H

#include "python/candidates.h"

#include "base/parallel.h"
#include "selector/sampler.h"
#include "selector/shares.h"
#include "selector/values.h"

#include <stdatomic.h>

/* 0, or -1 and ValueError. */
int mdn_py_read_mode(int number, mdn_shares_mode *out);

/* At least 1; 0 and an exception. */
uint32_t mdn_py_read_threads(unsigned long threads);

/* Values as Python gives them, and what they hold for as long as one call:
 * "timestamp", "label", an array of float64 or int64 with a row for each
 * candidate, or a callable that makes a float64 array of the columns (keys,
 * timestamps, labels) of a block.  None: none. */
typedef struct {
    mdn_values core;
    bool given;
    Py_buffer rows;         /* of an array; obj is NULL without */
    Py_buffer answer;       /* of the callable, to the last block; likewise */
    PyObject *callable;     /* borrowed */
    PyThreadState **thread; /* borrowed: of who calls */
} mdn_py_values;

/* 0, or -1 and an exception.  To be released also after a failure; must not
 * move in between. */
int mdn_py_values_read(PyObject *object, double offset, PyThreadState **thread,
                       mdn_py_values *out);
/* Whether an array has rows for all candidates: 0, or -1 and ValueError. */
int mdn_py_values_check(const mdn_py_values *values,
                        const mdn_py_candidates *candidates);
void mdn_py_values_release(mdn_py_values *values);

/* Candidates in parts, one for each thread that is worth it; it must not move
 * while it is open. */
typedef struct {
    mdn_shard shards[MDN_PARTS_MAX];
    uint32_t count;
    atomic_bool ended; /* all of them, at their next block */
} mdn_py_shards;

/* values: NULL for who looks at keys (and labels, if wanted) only.  Call
 * without the GIL; to be closed unless it fails. */
mdn_status mdn_py_shards_open(const mdn_py_candidates *candidates,
                              const mdn_py_values *values, mdn_wanted wanted,
                              uint32_t threads, const mdn_pulse *pulse,
                              mdn_py_shards *out, mdn_error *err);
void mdn_py_shards_close(mdn_py_shards *shards);

/* (keys, weights or None, repeated); takes over the arrays. */
PyObject *mdn_py_drawn(mdn_drawn *drawn, bool repeated);

#endif
