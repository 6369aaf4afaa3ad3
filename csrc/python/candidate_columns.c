/* candidate_columns.c - the columns of candidates, as arrays.
 *
 * columns() reads a part of them once.  blocks() makes an iterator that holds
 * one stream and cuts it anew, so that a stream that costs something to open
 * is opened once however many blocks there are; it is read ahead while a policy
 * looks at a block.  Arrays are copies: a block of a stream is gone with the
 * next one. */
#include "python/candidates.h"

#include "metadata/ahead.h"

#include <stdlib.h>
#include <string.h>

typedef struct {
    uint64_t *keys;
    int64_t *timestamps;
    int64_t *labels; /* NULL without labels */
} columns;

/* A stream, and where it is. */
typedef struct {
    mdn_metadata_stream *stream; /* owned */
    mdn_metadata_block block;    /* that was read last */
    uint64_t used;               /* samples of it */
} cursor;

static void
columns_free(columns *c)
{
    free(c->keys);
    free(c->timestamps);
    free(c->labels);
}

static mdn_status
columns_alloc(bool labelled, uint64_t count, columns *out, mdn_error *err)
{
    size_t size = (count > 0 ? count : 1) * sizeof(uint64_t);

    *out = (columns){
        .keys = malloc(size),
        .timestamps = malloc(size),
        .labels = labelled ? malloc(size) : NULL,
    };
    if (out->keys != NULL && out->timestamps != NULL
        && (out->labels != NULL || !labelled))
        return MDN_OK;
    columns_free(out);
    return mdn_fail_nomem(err, 3 * size);
}

/* At least one more sample at hand. */
static mdn_status
refill(cursor *from, mdn_error *err)
{
    mdn_status st;

    if (from->used < from->block.count)
        return MDN_OK;
    from->used = 0;
    st = from->stream->next(from->stream, &from->block, err);
    if (st != MDN_OK)
        from->block.count = 0;
    else if (from->block.count == 0)
        st = mdn_fail(err, MDN_DATABASE,
                      "the candidates changed while they were read: some are "
                      "not there any more");
    return st;
}

static mdn_status
skip_samples(cursor *from, uint64_t count, mdn_error *err)
{
    mdn_status st = MDN_OK;

    while (count > 0 && (st = refill(from, err)) == MDN_OK) {
        uint64_t some = from->block.count - from->used;

        some = some < count ? some : count;
        from->used += some;
        count -= some;
    }
    return st;
}

static void
copy_column(int64_t *to, const int64_t *from, uint64_t count)
{
    if (to == NULL)
        return;
    if (from != NULL)
        memcpy(to, from, count * sizeof *to);
    else
        memset(to, 0, count * sizeof *to);
}

/* The next count samples. */
static mdn_status
copy_samples(cursor *from, uint64_t count, columns *out, mdn_error *err)
{
    uint64_t done = 0;
    mdn_status st = MDN_OK;

    while (done < count && (st = refill(from, err)) == MDN_OK) {
        const mdn_metadata_block *block = &from->block;
        uint64_t some = block->count - from->used, at = from->used;

        some = some < count - done ? some : count - done;
        memcpy(out->keys + done, block->keys + at, some * sizeof *block->keys);
        copy_column(out->timestamps + done,
                    block->timestamps ? block->timestamps + at : NULL, some);
        copy_column(out->labels ? out->labels + done : NULL,
                    block->labels ? block->labels + at : NULL, some);
        from->used += some;
        done += some;
    }
    return st;
}

static mdn_status
copy_columns(const mdn_py_candidates *self, uint64_t first, uint64_t count,
             const mdn_pulse *pulse, columns *out, mdn_error *err)
{
    cursor from = {.stream = NULL};
    uint64_t skip;
    mdn_status st =
        columns_alloc(mdn_py_candidates_labelled(self), count, out, err);

    if (st != MDN_OK)
        return st;
    st = mdn_py_candidates_open_at(self, first, count, pulse, &skip,
                                   &from.stream, err);
    if (st == MDN_OK) {
        if ((st = skip_samples(&from, skip, err)) == MDN_OK)
            st = copy_samples(&from, count, out, err);
        from.stream->free(from.stream);
    }
    if (st != MDN_OK)
        columns_free(out);
    return st;
}

/* (keys, timestamps, labels or None); takes the memory over. */
static PyObject *
as_tuple(const columns *c, uint64_t count)
{
    PyObject *keys = mdn_py_owned_array(c->keys, MDN_UINT64, count);
    PyObject *timestamps = mdn_py_owned_array(c->timestamps, MDN_INT64, count);
    PyObject *labels = c->labels
                           ? mdn_py_owned_array(c->labels, MDN_INT64, count)
                           : Py_NewRef(Py_None);

    if (keys != NULL && timestamps != NULL && labels != NULL)
        return Py_BuildValue("(NNN)", keys, timestamps, labels);
    Py_XDECREF(keys);
    Py_XDECREF(timestamps);
    Py_XDECREF(labels);
    return NULL;
}

const char mdn_py_columns_doc[] =
    "columns($self, first, count, /)\n--\n\n"
    "Return (keys, timestamps, labels) of candidates first .. first+count-1.\n"
    "\n"
    "New arrays; labels is None without labels.";

PyObject *
mdn_py_candidates_columns(mdn_py_candidates *self, PyObject *args)
{
    PyThreadState *thread;
    mdn_pulse pulse = {.ask = mdn_py_check_signals, .ctx = &thread};
    unsigned long long first, count;
    mdn_error err;
    mdn_status st;
    columns c;

    if (!PyArg_ParseTuple(args, "KK:columns", &first, &count))
        return NULL;
    if (first > self->count || count > self->count - first) {
        PyErr_Format(PyExc_ValueError,
                     "candidates %llu and %llu more are beyond the end of %llu",
                     first, count, (unsigned long long)self->count);
        return NULL;
    }
    thread = PyEval_SaveThread();
    st = copy_columns(self, first, count, &pulse, &c, &err);
    PyEval_RestoreThread(thread);
    if (st != MDN_OK)
        return mdn_py_raise(mdn_py_state_of_type(Py_TYPE(self)), &err);
    return as_tuple(&c, count);
}

/* ---- the iterator ---- */

typedef struct {
    PyObject_HEAD
    mdn_py_candidates *candidates; /* keeps what the stream borrows */
    PyThreadState *thread;         /* of the thread in __next__, in the core */
    mdn_pulse pulse;               /* takes it from there */
    bool running;                  /* __next__ is on the way */
    cursor from;
    uint64_t block_count;
    uint64_t read_count; /* samples of a block of the stream, at most */
    uint64_t left;       /* samples to come */
} blocks_object;

/* The candidates from a position on; on any thread. */
static mdn_status
open_from(void *ctx, uint64_t first, const mdn_pulse *pulse,
          mdn_metadata_stream **out, mdn_error *err)
{
    const blocks_object *self = ctx;

    return mdn_py_candidates_open_part(self->candidates, first,
                                       self->candidates->last, self->read_count,
                                       MDN_WANT_ALL, pulse, out, err);
}

const char mdn_py_blocks_doc[] =
    "blocks($self, block_count, /)\n--\n\n"
    "Return an iterator over (keys, timestamps, labels) of so many candidates\n"
    "at a time, the last fewer. For one thread at a time.";

PyObject *
mdn_py_candidates_blocks(mdn_py_candidates *self, PyObject *args)
{
    mdn_py_state *state = mdn_py_state_of_type(Py_TYPE(self));
    mdn_metadata_opening opening;
    unsigned long long block_count;
    blocks_object *out;
    mdn_error err;
    mdn_status st;

    if (!PyArg_ParseTuple(args, "K:blocks", &block_count))
        return NULL;
    if (block_count == 0) {
        PyErr_SetString(PyExc_ValueError, "block_count must be at least 1");
        return NULL;
    }
    out = (blocks_object *)state->candidate_blocks_type->tp_alloc(
        state->candidate_blocks_type, 0);
    if (out == NULL)
        return NULL;
    out->candidates = (mdn_py_candidates *)Py_NewRef((PyObject *)self);
    out->pulse = (mdn_pulse){.ask = mdn_py_check_signals, .ctx = &out->thread};
    out->left = self->count;
    out->block_count = block_count;
    out->read_count = block_count < out->left ? block_count : out->left + 1;
    opening = (mdn_metadata_opening){.open = open_from, .ctx = out};
    st = mdn_metadata_ahead(&opening, self->first, out->read_count, &out->pulse,
                            &out->from.stream, &err);
    if (st == MDN_OK)
        return (PyObject *)out;
    Py_DECREF(out);
    return mdn_py_raise(state, &err);
}

static PyObject *
blocks_next(blocks_object *self)
{
    uint64_t count =
        self->left < self->block_count ? self->left : self->block_count;
    mdn_error err;
    mdn_status st;
    columns c;

    if (self->running) {
        PyErr_SetString(PyExc_RuntimeError,
                        "the iterator is in use by another thread");
        return NULL;
    }
    if (count == 0)
        return NULL;
    self->running = true;
    self->thread = PyEval_SaveThread();
    st = columns_alloc(mdn_py_candidates_labelled(self->candidates), count, &c,
                       &err);
    if (st == MDN_OK) {
        st = copy_samples(&self->from, count, &c, &err);
        if (st != MDN_OK)
            columns_free(&c);
    }
    PyEval_RestoreThread(self->thread);
    self->running = false;
    self->left = st == MDN_OK ? self->left - count : 0;
    if (st == MDN_OK)
        return as_tuple(&c, count);
    return mdn_py_raise(mdn_py_state_of_type(Py_TYPE(self)), &err);
}

static void
blocks_dealloc(blocks_object *self)
{
    PyTypeObject *type = Py_TYPE(self);
    mdn_metadata_stream *stream = self->from.stream;

    if (stream != NULL) {
        Py_BEGIN_ALLOW_THREADS /* it may have to tell a server */
        stream->free(stream);
        Py_END_ALLOW_THREADS
    }
    Py_XDECREF(self->candidates);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyType_Slot blocks_slots[] = {
    {Py_tp_doc, (void *)"The columns of candidates, block by block."},
    {Py_tp_dealloc, (void *)blocks_dealloc},
    {Py_tp_iter, (void *)PyObject_SelfIter},
    {Py_tp_iternext, (void *)blocks_next},
    {0, NULL},
};

static PyType_Spec blocks_spec = {
    .name = "modyn._core.CandidateBlocks",
    .basicsize = sizeof(blocks_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION
             | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = blocks_slots,
};

int
mdn_py_add_candidate_blocks(PyObject *module, mdn_py_state *state)
{
    state->candidate_blocks_type =
        (PyTypeObject *)PyType_FromModuleAndSpec(module, &blocks_spec, NULL);
    if (state->candidate_blocks_type == NULL)
        return -1;
    return PyModule_AddType(module, state->candidate_blocks_type);
}
