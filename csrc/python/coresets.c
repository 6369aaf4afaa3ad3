/* coresets.c - the greedy methods; their face is modyn/coresets. */
#include "python/coresets.h"

#include "python/candidates.h"
#include "selector/facility.h"
#include "selector/kcenter.h"

#include <stdlib.h>

/* ---- arguments ---- */

static int
read_matrix(PyObject *object, const char *name, Py_buffer *out)
{
    if (mdn_py_buffer(object, name, "f", 4, 0, out) < 0)
        return -1;
    if (out->ndim == 2 && out->shape[0] > 0 && out->shape[1] > 0
        && out->shape[1] <= INT32_MAX)
        return 0;
    PyErr_Format(PyExc_ValueError,
                 "%s must have two dimensions, none of them 0, got %d", name,
                 out->ndim);
    PyBuffer_Release(out);
    return -1;
}

int
mdn_py_features_read(PyObject *rows, PyObject *embeddings, uint32_t threads,
                     mdn_py_features *out)
{
    *out = (mdn_py_features){
        .threads = threads,
        .pulse = {.ask = mdn_py_check_signals, .ctx = &out->thread},
        .beat = {.pulse = &out->pulse},
    };
    if (threads == 0) {
        PyErr_SetString(PyExc_ValueError, "threads must be at least 1, got 0");
        return -1;
    }
    if (read_matrix(rows, "features", &out->rows) < 0)
        return -1;
    if (embeddings == Py_None)
        return 0;
    if (read_matrix(embeddings, "embeddings", &out->embeddings) < 0) {
        PyBuffer_Release(&out->rows);
        return -1;
    }
    if (out->embeddings.shape[0] == out->rows.shape[0])
        return 0;
    PyErr_Format(PyExc_ValueError, "expected %zd embeddings, got %zd",
                 out->rows.shape[0], out->embeddings.shape[0]);
    mdn_py_features_release(out);
    return -1;
}

void
mdn_py_features_release(mdn_py_features *given)
{
    PyBuffer_Release(&given->rows);
    if (given->embeddings.obj != NULL)
        PyBuffer_Release(&given->embeddings);
}

uint64_t
mdn_py_features_count(const mdn_py_features *given)
{
    return (uint64_t)given->rows.shape[0];
}

uint64_t
mdn_py_features_least(const mdn_py_features *given, uint64_t count)
{
    uint64_t n = mdn_py_features_count(given);

    return count < n ? count : n;
}

/* "O&" of PyArg_ParseTuple. */
int
mdn_py_read_greedy(PyObject *object, void *out)
{
    mdn_greedy_options *options = out;
    unsigned long long batch, seed;
    int how;

    if (!PyArg_ParseTuple(object, "iKddK:greedy", &how, &batch,
                          &options->epsilon, &options->beta, &seed))
        return 0;
    if (how < MDN_GREEDY_NAIVE || how > MDN_GREEDY_APPROXIMATE) {
        PyErr_Format(PyExc_ValueError, "greedy must be 0 to 3, got %d", how);
        return 0;
    }
    options->how = (mdn_greedy_how)how;
    options->batch = batch;
    options->seed = seed;
    return 1;
}

/* ---- answers ---- */

/* -1 and MemoryError with nothing to clean up. */
static int
columns_new(mdn_py_column *columns, Py_ssize_t count)
{
    for (Py_ssize_t i = 0; i < count; i++) {
        columns[i].data = calloc(columns[i].count + 1, 8);
        if (columns[i].data == NULL) {
            while (i-- > 0)
                free(columns[i].data);
            PyErr_NoMemory();
            return -1;
        }
    }
    return 0;
}

PyObject *
mdn_py_columns(PyObject *module, mdn_status st, const mdn_error *err,
               mdn_py_column *columns, Py_ssize_t count)
{
    PyObject *tuple = st == MDN_OK ? PyTuple_New(count) : NULL;

    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *array = NULL;

        if (tuple != NULL)
            array = mdn_py_owned_array(columns[i].data, columns[i].dtype,
                                       columns[i].count);
        else
            free(columns[i].data);
        if (array != NULL)
            PyTuple_SET_ITEM(tuple, i, array);
        else
            Py_CLEAR(tuple);
    }
    if (st != MDN_OK)
        return mdn_py_raise(mdn_py_state_of_module(module), err);
    return tuple;
}

/* ---- running ---- */

mdn_status
mdn_py_features_run(mdn_py_features *given, mdn_py_method *method,
                    const void *call, void *out, mdn_error *err)
{
    bool more = given->embeddings.obj != NULL;
    mdn_features features;
    mdn_status st;

    given->thread = PyEval_SaveThread();
    st = mdn_features_init(
        given->rows.buf, (uint32_t)given->rows.shape[1], given->embeddings.buf,
        more ? (uint32_t)given->embeddings.shape[1] : 0,
        mdn_py_features_count(given), given->threads, &features, err);
    features.beat = &given->beat;
    if (st == MDN_OK) {
        st = method(&features, call, out, err);
        mdn_features_free(&features);
    }
    PyEval_RestoreThread(given->thread);
    return st;
}

PyObject *
mdn_py_features_answer(PyObject *module, mdn_py_features *given,
                       mdn_py_method *method, const void *call,
                       mdn_py_column *columns, Py_ssize_t count)
{
    PyObject *answer = NULL;
    mdn_error err;
    mdn_status st;

    if (columns_new(columns, count) == 0) {
        st = mdn_py_features_run(given, method, call, columns, &err);
        answer = mdn_py_columns(module, st, &err, columns, count);
    }
    mdn_py_features_release(given);
    return answer;
}

/* ---- the methods ---- */

typedef struct {
    Py_buffer start;
    unsigned long long count;
} kcenter_call;

static mdn_status
run_kcenter(const mdn_features *features, const void *with, void *answer,
            mdn_error *err)
{
    const kcenter_call *call = with;
    mdn_py_column *out = answer;

    return mdn_kcenter(features, call->start.buf, (uint64_t)call->start.len / 8,
                       call->count, out[0].data, out[1].data, out[2].data, err);
}

PyDoc_STRVAR(
    kcenter_doc,
    "kcenter($module, features, embeddings, start, count, threads, /)\n--\n\n"
    "Return rows (uint64), radii and the distances of all (float64).");

static PyObject *
kcenter(PyObject *module, PyObject *args)
{
    PyObject *rows, *embeddings, *begin, *answer;
    unsigned int threads;
    mdn_py_features given;
    kcenter_call call;

    if (!PyArg_ParseTuple(args, "OOOKI:kcenter", &rows, &embeddings, &begin,
                          &call.count, &threads)
        || mdn_py_features_read(rows, embeddings, threads, &given) < 0)
        return NULL;
    if (mdn_py_read_column(begin, "start", "LQ", &call.start) < 0) {
        mdn_py_features_release(&given);
        return NULL;
    }
    uint64_t k = mdn_py_features_least(&given, call.count);
    mdn_py_column out[] = {{NULL, MDN_UINT64, k},
                           {NULL, MDN_FLOAT64, k},
                           {NULL, MDN_FLOAT64, mdn_py_features_count(&given)}};
    answer = mdn_py_features_answer(module, &given, run_kcenter, &call, out, 3);
    PyBuffer_Release(&call.start);
    return answer;
}

typedef struct {
    int similarity;
    mdn_greedy_options options;
    unsigned long long count;
} facility_call;

static mdn_status
run_facility(const mdn_features *features, const void *with, void *answer,
             mdn_error *err)
{
    const facility_call *call = with;
    mdn_py_column *out = answer;

    return mdn_facility(
        features, call->similarity ? MDN_SIMILAR_PLACE : MDN_SIMILAR_COSINE,
        &call->options, call->count, out[0].data, out[1].data, out[2].data,
        out[3].data, err);
}

PyDoc_STRVAR(facility_doc,
             "facility($module, features, embeddings, similarity, greedy, "
             "count, threads, /)\n--\n\n"
             "Return rows (uint64), gains (float64), how many rows each "
             "serves, and [evaluations].\n\n"
             "similarity: 0 cosine, 1 place.  greedy: how, batch, epsilon, "
             "beta, seed.");

static PyObject *
facility(PyObject *module, PyObject *args)
{
    PyObject *rows, *embeddings;
    unsigned int threads;
    mdn_py_features given;
    facility_call call;

    if (!PyArg_ParseTuple(args, "OOiO&KI:facility", &rows, &embeddings,
                          &call.similarity, mdn_py_read_greedy, &call.options,
                          &call.count, &threads)
        || mdn_py_features_read(rows, embeddings, threads, &given) < 0)
        return NULL;
    uint64_t k = mdn_py_features_least(&given, call.count);
    mdn_py_column out[] = {{NULL, MDN_UINT64, k},
                           {NULL, MDN_FLOAT64, k},
                           {NULL, MDN_UINT64, k},
                           {NULL, MDN_UINT64, 1}};
    return mdn_py_features_answer(module, &given, run_facility, &call, out, 4);
}

static PyMethodDef functions[] = {
    {"kcenter", kcenter, METH_VARARGS, kcenter_doc},
    {"facility", facility, METH_VARARGS, facility_doc},
    {NULL, NULL, 0, NULL},
};

int
mdn_py_add_coresets(PyObject *module)
{
    if (PyModule_AddFunctions(module, functions) < 0)
        return -1;
    return mdn_py_add_coresets_more(module);
}
