/* candidates.h - _core.Candidates, for the files that read from one.
 *
 * A Candidates object holds where samples lie, not a stream: every call makes
 * a stream of its own, so that any number of threads may read from one object
 * at the same time. */
#ifndef MDN_PYTHON_CANDIDATES_H
#define MDN_PYTHON_CANDIDATES_H

#include "python/python.h"

#include "base/pulse.h"
#include "metadata/filter.h"
#include "metadata/source.h"

/* One of: a view, with or without an order; a source; arrays. */
typedef struct {
    PyObject_HEAD
    mdn_view *view;              /* one reference, or NULL */
    mdn_metadata_source *source; /* one reference, or NULL */
    Py_buffer keys; /* of arrays; of a view its order; obj is NULL without */
    Py_buffer timestamps;
    Py_buffer labels;
    uint64_t first, last; /* in stream order, of a view or a source */
    uint64_t living;      /* samples there, before the filter */
    uint64_t gaps;        /* positions there that hold no sample */
    bool filtered;
    mdn_filter filter; /* its labels are owned, from PyMem */
    uint64_t count;    /* samples, behind the filter */
} mdn_py_candidates;

/* Whether the samples have labels. */
bool mdn_py_candidates_labelled(const mdn_py_candidates *self);

/* All candidates in stream order, in blocks of block_count at most. */
mdn_status mdn_py_candidates_open(const mdn_py_candidates *self,
                                  uint64_t block_count, mdn_wanted wanted,
                                  const mdn_pulse *pulse,
                                  mdn_metadata_stream **out, mdn_error *err);

/* Those of them at positions first .. last-1, which lie in its range. */
mdn_status mdn_py_candidates_open_part(const mdn_py_candidates *self,
                                       uint64_t first, uint64_t last,
                                       uint64_t block_count, mdn_wanted wanted,
                                       const mdn_pulse *pulse,
                                       mdn_metadata_stream **out,
                                       mdn_error *err);

/* A stream that has count candidates from number `first` on behind its next
 * *skip samples, and maybe more behind them. */
mdn_status mdn_py_candidates_open_at(const mdn_py_candidates *self,
                                     uint64_t first, uint64_t count,
                                     const mdn_pulse *pulse, uint64_t *skip,
                                     mdn_metadata_stream **out, mdn_error *err);

/* A writable array that owns data, which was malloc'd and is not NULL. */
PyObject *mdn_py_owned_array(void *data, mdn_dtype dtype, uint64_t count);
/* A read-only column of items of 8 bytes.  0, or -1 and an exception. */
int mdn_py_read_column(PyObject *object, const char *name, const char *formats,
                       Py_buffer *out);

/* candidate_columns.c: the methods columns and blocks. */
extern const char mdn_py_columns_doc[], mdn_py_blocks_doc[];
PyObject *mdn_py_candidates_columns(mdn_py_candidates *self, PyObject *args);
PyObject *mdn_py_candidates_blocks(mdn_py_candidates *self, PyObject *args);
int mdn_py_add_candidate_blocks(PyObject *module, mdn_py_state *state);

/* sampling.c: who gets how much. */
int mdn_py_add_fair_shares(PyObject *module);

/* sampling_whole.c: the methods of candidates that choose. */
extern const char mdn_py_total_doc[], mdn_py_systematic_doc[],
    mdn_py_band_doc[];
PyObject *mdn_py_candidates_total(mdn_py_candidates *self, PyObject *args);
PyObject *mdn_py_candidates_systematic(mdn_py_candidates *self, PyObject *args);
PyObject *mdn_py_candidates_band(mdn_py_candidates *self, PyObject *args);

/* sampling_sampler.c: _core.Sampler. */
int mdn_py_add_sampler(PyObject *module, mdn_py_state *state);

/* sampling_bits.c: bitmaps over keys. */
int mdn_py_add_bits(PyObject *module);

#endif
