/* sampling_values.c - values of candidates, and candidates in parts. */
#include "python/sampling.h"

#include "metadata/watched.h"

#include <stdlib.h>
#include <string.h>

#define BLOCK_COUNT 16384         /* samples of a block: 384 KiB of columns */
#define ASKED_COUNT 65536         /* the same where Python looks at each */
#define LEAST (UINT64_C(1) << 17) /* candidates that are worth a thread */

uint32_t
mdn_py_read_threads(unsigned long threads)
{
    if (threads == 0)
        PyErr_SetString(PyExc_ValueError, "threads must be at least 1, got 0");
    return threads > MDN_PARTS_MAX ? MDN_PARTS_MAX : (uint32_t)threads;
}

/* ---- values ---- */

/* A writable array with a copy of a column, or of zeros. */
static PyObject *
column_of(const void *data, mdn_dtype dtype, uint64_t count)
{
    void *copy = calloc(count, 8);

    if (copy == NULL)
        return PyErr_NoMemory();
    if (data != NULL)
        memcpy(copy, data, count * 8);
    return mdn_py_owned_array(copy, dtype, count);
}

static PyObject *
call(PyObject *callable, const mdn_metadata_block *block)
{
    PyObject *keys = column_of(block->keys, MDN_UINT64, block->count);
    PyObject *timestamps =
        column_of(block->timestamps, MDN_INT64, block->count);
    PyObject *labels = block->labels
                           ? column_of(block->labels, MDN_INT64, block->count)
                           : Py_NewRef(Py_None);
    PyObject *made = NULL;

    if (keys != NULL && timestamps != NULL && labels != NULL)
        made = PyObject_CallFunctionObjArgs(callable, keys, timestamps, labels,
                                            NULL);
    Py_XDECREF(keys);
    Py_XDECREF(timestamps);
    Py_XDECREF(labels);
    return made;
}

/* The answer for a block into values->answer; -1 and an exception. */
static int
ask_python(mdn_py_values *values, const mdn_metadata_block *block)
{
    PyObject *made;
    int rc;

    PyBuffer_Release(&values->answer); /* accepts a buffer never filled */
    if ((made = call(values->callable, block)) == NULL)
        return -1;
    rc = mdn_py_read_column(made, "values", "d", &values->answer);
    Py_DECREF(made);
    if (rc < 0)
        return -1;
    if ((uint64_t)values->answer.len / 8 == block->count)
        return 0;
    PyErr_Format(PyExc_ValueError,
                 "values of a block must have shape (%llu,), got (%zd,)",
                 (unsigned long long)block->count, values->answer.len / 8);
    return -1;
}

static mdn_status
ask(void *ctx, const mdn_metadata_block *block, const double **out,
    mdn_error *err)
{
    mdn_py_values *values = ctx;
    mdn_status st = MDN_OK;

    PyEval_RestoreThread(*values->thread);
    if (ask_python(values, block) < 0)
        st = mdn_fail(err, MDN_CALLBACK, "the values raised");
    *values->thread = PyEval_SaveThread();
    *out = values->answer.buf;
    return st;
}

static int
read_name(PyObject *object, mdn_values *out)
{
    if (PyUnicode_CompareWithASCIIString(object, "timestamp") == 0) {
        out->kind = MDN_VALUES_TIMESTAMPS;
    } else if (PyUnicode_CompareWithASCIIString(object, "label") == 0) {
        out->kind = MDN_VALUES_LABELS;
    } else {
        PyErr_Format(PyExc_ValueError,
                     "columns are \"timestamp\" and \"label\", got %R", object);
        return -1;
    }
    return 0;
}

int
mdn_py_values_read(PyObject *object, double offset, PyThreadState **thread,
                   mdn_py_values *out)
{
    *out = (mdn_py_values){
        .given = object != Py_None,
        .callable = object,
        .thread = thread,
    };
    out->core = (mdn_values){.ask = ask, .ctx = out, .offset = offset};
    if (!out->given)
        return 0;
    if (PyUnicode_Check(object))
        return read_name(object, &out->core);
    if (PyCallable_Check(object)) {
        out->core.kind = MDN_VALUES_ASKED;
        return 0;
    }
    if (mdn_py_read_column(object, "values", "dlq", &out->rows) < 0)
        return -1;
    out->core.count = (uint64_t)out->rows.len / 8;
    if (strchr(out->rows.format, 'd') != NULL) {
        out->core.kind = MDN_VALUES_DOUBLES;
        out->core.doubles = out->rows.buf;
    } else {
        out->core.kind = MDN_VALUES_INTS;
        out->core.ints = out->rows.buf;
    }
    return 0;
}

void
mdn_py_values_release(mdn_py_values *values)
{
    PyBuffer_Release(&values->rows);
    PyBuffer_Release(&values->answer);
}

/* ---- parts ---- */

/* Whether row numbers of parts can be known without reading. */
static bool
rows_are_positions(const mdn_py_candidates *candidates)
{
    return candidates->gaps == 0 && !candidates->filtered;
}

static uint32_t
part_count(const mdn_py_candidates *candidates, const mdn_py_values *values,
           uint32_t threads)
{
    if (candidates->source != NULL
        || (values != NULL && values->core.kind == MDN_VALUES_ASKED)
        || (values != NULL && values->rows.obj != NULL
            && !rows_are_positions(candidates)))
        return 1;
    return mdn_parallel_parts(candidates->last - candidates->first, LEAST,
                              threads);
}

static mdn_wanted
wanted_by(const mdn_py_values *values, mdn_wanted wanted)
{
    if (values == NULL)
        return wanted;
    switch (values->core.kind) {
    case MDN_VALUES_TIMESTAMPS:
        return (mdn_wanted)(wanted | MDN_WANT_TIMESTAMPS);
    case MDN_VALUES_LABELS: return (mdn_wanted)(wanted | MDN_WANT_LABELS);
    case MDN_VALUES_ASKED: return MDN_WANT_ALL;
    case MDN_VALUES_DOUBLES:
    case MDN_VALUES_INTS: break;
    }
    return wanted;
}

/* One part.  A source asks the pulse itself; others are watched. */
static mdn_status
open_part(const mdn_py_candidates *candidates, uint64_t first, uint64_t last,
          uint64_t block_count, mdn_wanted wanted, const mdn_pulse *pulse,
          atomic_bool *ended, mdn_metadata_stream **out, mdn_error *err)
{
    mdn_metadata_stream *inner;
    mdn_status st = mdn_py_candidates_open_part(
        candidates, candidates->first + first, candidates->first + last,
        block_count, wanted, pulse, &inner, err);

    *out = inner;
    if (st != MDN_OK || candidates->source != NULL)
        return st;
    return mdn_metadata_watched(inner, pulse, ended, out, err);
}

mdn_status
mdn_py_shards_open(const mdn_py_candidates *candidates,
                   const mdn_py_values *values, mdn_wanted wanted,
                   uint32_t threads, const mdn_pulse *pulse, mdn_py_shards *out,
                   mdn_error *err)
{
    uint32_t parts = part_count(candidates, values, threads);
    uint64_t count = candidates->last - candidates->first;
    bool asked = values != NULL && values->core.kind == MDN_VALUES_ASKED;
    mdn_status st;

    atomic_init(&out->ended, false);
    for (out->count = 0; out->count < parts; out->count++) {
        mdn_shard *shard = &out->shards[out->count];
        uint64_t first = mdn_part_first(count, parts, out->count);
        uint64_t last = mdn_part_first(count, parts, out->count + 1);

        shard->row = first;
        st = open_part(
            candidates, first, last, asked ? ASKED_COUNT : BLOCK_COUNT,
            wanted_by(values, wanted), out->count == 0 ? pulse : NULL,
            &out->ended, &shard->stream, err);
        if (st != MDN_OK) {
            mdn_py_shards_close(out);
            return st;
        }
    }
    return MDN_OK;
}

void
mdn_py_shards_close(mdn_py_shards *shards)
{
    for (uint32_t i = 0; i < shards->count; i++)
        shards->shards[i].stream->free(shards->shards[i].stream);
    shards->count = 0;
}
