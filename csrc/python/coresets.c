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

mdn_status
mdn_py_features_init(mdn_py_features *given, mdn_features *out, mdn_error *err)
{
    bool more = given->embeddings.obj != NULL;
    mdn_status st = mdn_features_init(
        given->rows.buf, (uint32_t)given->rows.shape[1], given->embeddings.buf,
        more ? (uint32_t)given->embeddings.shape[1] : 0,
        mdn_py_features_count(given), given->threads, out, err);

    out->beat = &given->beat;
    return st;
}

uint64_t
mdn_py_features_count(const mdn_py_features *given)
{
    return (uint64_t)given->rows.shape[0];
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

int
mdn_py_columns_new(mdn_py_column *columns, Py_ssize_t count)
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

/* ---- the methods ---- */

PyDoc_STRVAR(
    kcenter_doc,
    "kcenter($module, features, embeddings, start, count, threads, /)\n--\n\n"
    "Return rows (uint64), radii and the distances of all (float64).");

static PyObject *
kcenter(PyObject *module, PyObject *args)
{
    PyObject *rows, *embeddings, *begin, *answer = NULL;
    unsigned long long count;
    unsigned int threads;
    mdn_py_features given;
    mdn_features features;
    Py_buffer start;
    mdn_error err;
    mdn_status st;

    if (!PyArg_ParseTuple(args, "OOOKI:kcenter", &rows, &embeddings, &begin,
                          &count, &threads)
        || mdn_py_features_read(rows, embeddings, threads, &given) < 0)
        return NULL;
    if (mdn_py_read_column(begin, "start", "LQ", &start) == 0) {
        uint64_t n = mdn_py_features_count(&given);
        uint64_t k = count < n ? count : n;
        mdn_py_column out[] = {{NULL, MDN_UINT64, k},
                               {NULL, MDN_FLOAT64, k},
                               {NULL, MDN_FLOAT64, n}};

        if (mdn_py_columns_new(out, 3) == 0) {
            given.thread = PyEval_SaveThread();
            st = mdn_py_features_init(&given, &features, &err);
            if (st == MDN_OK) {
                st = mdn_kcenter(&features, start.buf, (uint64_t)start.len / 8,
                                 count, out[0].data, out[1].data, out[2].data,
                                 &err);
                mdn_features_free(&features);
            }
            PyEval_RestoreThread(given.thread);
            answer = mdn_py_columns(module, st, &err, out, 3);
        }
        PyBuffer_Release(&start);
    }
    mdn_py_features_release(&given);
    return answer;
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
    PyObject *rows, *embeddings, *answer = NULL;
    mdn_greedy_options options;
    unsigned long long count;
    unsigned int threads;
    int similarity;
    mdn_py_features given;
    mdn_features features;
    mdn_error err;
    mdn_status st;

    if (!PyArg_ParseTuple(args, "OOiO&KI:facility", &rows, &embeddings,
                          &similarity, mdn_py_read_greedy, &options, &count,
                          &threads)
        || mdn_py_features_read(rows, embeddings, threads, &given) < 0)
        return NULL;
    uint64_t n = mdn_py_features_count(&given), k = count < n ? count : n;
    mdn_py_column out[] = {{NULL, MDN_UINT64, k},
                           {NULL, MDN_FLOAT64, k},
                           {NULL, MDN_UINT64, k},
                           {NULL, MDN_UINT64, 1}};
    if (mdn_py_columns_new(out, 4) == 0) {
        given.thread = PyEval_SaveThread();
        st = mdn_py_features_init(&given, &features, &err);
        if (st == MDN_OK) {
            st = mdn_facility(
                &features, similarity ? MDN_SIMILAR_PLACE : MDN_SIMILAR_COSINE,
                &options, count, out[0].data, out[1].data, out[2].data,
                out[3].data, &err);
            mdn_features_free(&features);
        }
        PyEval_RestoreThread(given.thread);
        answer = mdn_py_columns(module, st, &err, out, 4);
    }
    mdn_py_features_release(&given);
    return answer;
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
