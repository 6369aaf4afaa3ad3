/* sampling.c - the samplers over candidates. */
#include "python/candidates.h"

#include "selector/sample.h"
#include "selector/shares.h"

#include <stdlib.h>

#define BLOCK_COUNT 16384 /* samples of a block: 384 KiB of columns */

static mdn_status
sample_uniform(const mdn_py_candidates *self, uint64_t count, uint64_t seed,
               const mdn_pulse *pulse, uint64_t **keys, uint64_t *key_count,
               mdn_error *err)
{
    mdn_metadata_stream *stream;
    mdn_status st = mdn_py_candidates_open(self, BLOCK_COUNT, MDN_WANT_KEYS,
                                           pulse, &stream, err);

    if (st != MDN_OK)
        return st;
    st = mdn_sample_uniform(stream, count, seed, keys, key_count, err);
    stream->free(stream);
    return st;
}

static mdn_status
sample_balanced(const mdn_py_candidates *self, uint64_t count,
                mdn_shares_mode mode, uint64_t seed, const mdn_pulse *pulse,
                uint64_t **keys, uint64_t *key_count, mdn_error *err)
{
    mdn_metadata_stream *stream;
    mdn_status st = mdn_py_candidates_open(self, BLOCK_COUNT, MDN_WANT_LABELS,
                                           pulse, &stream, err);

    if (st != MDN_OK)
        return st;
    st = mdn_sample_balanced(stream, count, mode, seed, keys, key_count, err);
    stream->free(stream);
    return st;
}

const char mdn_py_uniform_doc[] =
    "uniform($self, count, seed, /)\n--\n\n"
    "Return `count` keys, each set equally likely; uint64, ascending.";

PyObject *
mdn_py_candidates_uniform(mdn_py_candidates *self, PyObject *args)
{
    PyThreadState *thread;
    mdn_pulse pulse = {.ask = mdn_py_check_signals, .ctx = &thread};
    unsigned long long count, seed;
    uint64_t *keys, key_count;
    mdn_error err;
    mdn_status st;

    if (!PyArg_ParseTuple(args, "KK:uniform", &count, &seed))
        return NULL;
    thread = PyEval_SaveThread();
    st = sample_uniform(self, count, seed, &pulse, &keys, &key_count, &err);
    PyEval_RestoreThread(thread);
    if (st != MDN_OK)
        return mdn_py_raise(mdn_py_state_of_type(Py_TYPE(self)), &err);
    return mdn_py_owned_array(keys, MDN_UINT64, key_count);
}

/* 0, or -1 and ValueError. */
static int
read_mode(int number, mdn_shares_mode *out)
{
    switch (number) {
    case MDN_SHARES_LEVEL:
    case MDN_SHARES_EXACT:
    case MDN_SHARES_EQUAL: *out = (mdn_shares_mode)number; return 0;
    default:
        PyErr_Format(PyExc_ValueError, "mode must be 0, 1 or 2, got %d",
                     number);
        return -1;
    }
}

const char mdn_py_balanced_doc[] =
    "balanced($self, count, mode, seed, /)\n--\n\n"
    "Return at most `count` keys, a fair share of each label; uint64, "
    "ascending.\n\n"
    "mode: 0 level, 1 exact total, 2 equal counts.";

PyObject *
mdn_py_candidates_balanced(mdn_py_candidates *self, PyObject *args)
{
    PyThreadState *thread;
    mdn_pulse pulse = {.ask = mdn_py_check_signals, .ctx = &thread};
    unsigned long long count, seed;
    uint64_t *keys, key_count;
    int number;
    mdn_shares_mode mode;
    mdn_error err;
    mdn_status st;

    if (!PyArg_ParseTuple(args, "KiK:balanced", &count, &number, &seed)
        || read_mode(number, &mode) < 0)
        return NULL;
    thread = PyEval_SaveThread();
    st = sample_balanced(self, count, mode, seed, &pulse, &keys, &key_count,
                         &err);
    PyEval_RestoreThread(thread);
    if (st != MDN_OK)
        return mdn_py_raise(mdn_py_state_of_type(Py_TYPE(self)), &err);
    return mdn_py_owned_array(keys, MDN_UINT64, key_count);
}

PyDoc_STRVAR(fair_shares_doc,
             "fair_shares($module, sizes, capacity, mode, seed, /)\n--\n\n"
             "Return how much each group gives; uint64, the shape of sizes.");

static PyObject *
fair_shares(PyObject *module, PyObject *args)
{
    PyObject *object;
    unsigned long long capacity, seed;
    int number;
    mdn_shares_mode mode;
    Py_buffer sizes;
    uint64_t *shares;
    uint64_t count;
    mdn_error err;
    mdn_status st;

    if (!PyArg_ParseTuple(args, "OKiK:fair_shares", &object, &capacity, &number,
                          &seed)
        || read_mode(number, &mode) < 0
        || mdn_py_read_column(object, "sizes", "LQ", &sizes) < 0)
        return NULL;
    count = (uint64_t)sizes.len / 8;
    shares = malloc(count > 0 ? count * sizeof *shares : 1);
    if (shares == NULL) {
        PyBuffer_Release(&sizes);
        return PyErr_NoMemory();
    }
    Py_BEGIN_ALLOW_THREADS
    st = mdn_shares_fill(sizes.buf, count, capacity, mode, seed, shares, &err);
    Py_END_ALLOW_THREADS
    PyBuffer_Release(&sizes);
    if (st == MDN_OK)
        return mdn_py_owned_array(shares, MDN_UINT64, count);
    free(shares);
    return mdn_py_raise(mdn_py_state_of_module(module), &err);
}

static PyMethodDef functions[] = {
    {"fair_shares", fair_shares, METH_VARARGS, fair_shares_doc},
    {NULL, NULL, 0, NULL},
};

int
mdn_py_add_fair_shares(PyObject *module)
{
    return PyModule_AddFunctions(module, functions);
}
