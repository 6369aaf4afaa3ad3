/* coresets_more.c - the other greedy methods; their face is modyn/coresets. */
#include "python/coresets.h"

#include "python/candidates.h"
#include "selector/cut.h"
#include "selector/herding.h"
#include "selector/match.h"
#include "selector/volume.h"

#include <stdlib.h>

static uint64_t
least(unsigned long long count, const mdn_py_features *given)
{
    uint64_t n = mdn_py_features_count(given);

    return count < n ? count : n;
}

PyDoc_STRVAR(cut_doc,
             "graph_cut($module, features, embeddings, coverage, greedy, "
             "count, threads, /)\n--\n\n"
             "Return rows (uint64) and gains (float64).");

static PyObject *
graph_cut(PyObject *module, PyObject *args)
{
    PyObject *rows, *embeddings, *answer = NULL;
    mdn_greedy_options options;
    unsigned long long count;
    unsigned int threads;
    double coverage;
    mdn_py_features given;
    mdn_features features;
    mdn_error err;
    mdn_status st;

    if (!PyArg_ParseTuple(args, "OOdO&KI:graph_cut", &rows, &embeddings,
                          &coverage, mdn_py_read_greedy, &options, &count,
                          &threads)
        || mdn_py_features_read(rows, embeddings, threads, &given) < 0)
        return NULL;
    mdn_py_column out[] = {{NULL, MDN_UINT64, least(count, &given)},
                           {NULL, MDN_FLOAT64, least(count, &given)}};
    if (mdn_py_columns_new(out, 2) == 0) {
        given.thread = PyEval_SaveThread();
        st = mdn_py_features_init(&given, &features, &err);
        if (st == MDN_OK) {
            st = mdn_cut(&features, coverage, &options, count, out[0].data,
                         out[1].data, &err);
            mdn_features_free(&features);
        }
        PyEval_RestoreThread(given.thread);
        answer = mdn_py_columns(module, st, &err, out, 2);
    }
    mdn_py_features_release(&given);
    return answer;
}

PyDoc_STRVAR(volume_doc,
             "volume($module, features, embeddings, kind, ridge, way, greedy, "
             "count, threads, /)\n--\n\n"
             "Return rows (uint64) and gains (float64).\n\n"
             "kind: 0 similarity, 1 inner products.  way: 0 either, 1 space, "
             "2 kernel.");

static PyObject *
volume(PyObject *module, PyObject *args)
{
    PyObject *rows, *embeddings, *answer = NULL;
    mdn_greedy_options options;
    unsigned long long count;
    unsigned int threads;
    int linear, way;
    double ridge;
    mdn_py_features given;
    mdn_features features;
    mdn_error err;
    mdn_status st;

    if (!PyArg_ParseTuple(args, "OOpdiO&KI:volume", &rows, &embeddings, &linear,
                          &ridge, &way, mdn_py_read_greedy, &options, &count,
                          &threads))
        return NULL;
    if (way < MDN_VOLUME_AUTO || way > MDN_VOLUME_KERNEL)
        return PyErr_Format(PyExc_ValueError, "way must be 0 to 2, got %d",
                            way);
    if (mdn_py_features_read(rows, embeddings, threads, &given) < 0)
        return NULL;
    mdn_py_column out[] = {{NULL, MDN_UINT64, least(count, &given)},
                           {NULL, MDN_FLOAT64, least(count, &given)}};
    if (mdn_py_columns_new(out, 2) == 0) {
        given.thread = PyEval_SaveThread();
        st = mdn_py_features_init(&given, &features, &err);
        if (st == MDN_OK) {
            st = mdn_volume(&features,
                            linear ? MDN_VOLUME_LINEAR : MDN_VOLUME_SIMILAR,
                            ridge, (mdn_volume_way)way, &options, count,
                            out[0].data, out[1].data, &err);
            mdn_features_free(&features);
        }
        PyEval_RestoreThread(given.thread);
        answer = mdn_py_columns(module, st, &err, out, 2);
    }
    mdn_py_features_release(&given);
    return answer;
}

PyDoc_STRVAR(herding_doc,
             "herding($module, features, embeddings, count, threads, /)\n--\n\n"
             "Return rows (uint64) and errors of the mean (float64).");

static PyObject *
herding(PyObject *module, PyObject *args)
{
    PyObject *rows, *embeddings, *answer = NULL;
    unsigned long long count;
    unsigned int threads;
    mdn_py_features given;
    mdn_features features;
    mdn_error err;
    mdn_status st;

    if (!PyArg_ParseTuple(args, "OOKI:herding", &rows, &embeddings, &count,
                          &threads)
        || mdn_py_features_read(rows, embeddings, threads, &given) < 0)
        return NULL;
    mdn_py_column out[] = {{NULL, MDN_UINT64, least(count, &given)},
                           {NULL, MDN_FLOAT64, least(count, &given)}};
    if (mdn_py_columns_new(out, 2) == 0) {
        given.thread = PyEval_SaveThread();
        st = mdn_py_features_init(&given, &features, &err);
        if (st == MDN_OK) {
            st = mdn_herding(&features, count, out[0].data, out[1].data, &err);
            mdn_features_free(&features);
        }
        PyEval_RestoreThread(given.thread);
        answer = mdn_py_columns(module, st, &err, out, 2);
    }
    mdn_py_features_release(&given);
    return answer;
}

/* The columns of a matching, which gives them up; and its residual. */
static PyObject *
matching_answer(PyObject *module, mdn_status st, const mdn_error *err,
                mdn_matching *found)
{
    double *residual = st == MDN_OK ? malloc(sizeof *residual) : NULL;

    if (residual == NULL) {
        if (st == MDN_OK)
            mdn_matching_free(found);
        return st == MDN_OK ? PyErr_NoMemory()
                            : mdn_py_raise(mdn_py_state_of_module(module), err);
    }
    *residual = found->residual;
    mdn_py_column out[] = {{found->rows, MDN_UINT64, found->count},
                           {found->weights, MDN_FLOAT64, found->count},
                           {found->objectives, MDN_FLOAT64, found->steps},
                           {residual, MDN_FLOAT64, 1}};
    return mdn_py_columns(module, MDN_OK, NULL, out, 4);
}

/* 0, or -1 and an exception; out->obj is NULL for None. */
static int
read_target(PyObject *object, const mdn_py_features *given, Py_buffer *out)
{
    Py_ssize_t depth = given->embeddings.obj ? given->embeddings.shape[1] : 0;
    Py_ssize_t numbers = given->rows.shape[1] * (1 + depth);

    out->obj = NULL;
    if (object == Py_None)
        return 0;
    if (mdn_py_read_column(object, "target", "d", out) < 0)
        return -1;
    if (out->len / 8 == numbers)
        return 0;
    PyErr_Format(PyExc_ValueError, "target must have %zd numbers, got %zd",
                 numbers, out->len / 8);
    PyBuffer_Release(out);
    return -1;
}

PyDoc_STRVAR(match_doc,
             "match($module, features, embeddings, target, ridge, count, "
             "threads, /)\n--\n\n"
             "Return rows (uint64), weights, the objective after each step "
             "and [residual].");

static PyObject *
match(PyObject *module, PyObject *args)
{
    PyObject *rows, *embeddings, *object, *answer = NULL;
    unsigned long long count;
    unsigned int threads;
    double ridge;
    mdn_py_features given;
    mdn_features features;
    mdn_matching found;
    Py_buffer target;
    mdn_error err;
    mdn_status st;

    if (!PyArg_ParseTuple(args, "OOOdKI:match", &rows, &embeddings, &object,
                          &ridge, &count, &threads)
        || mdn_py_features_read(rows, embeddings, threads, &given) < 0)
        return NULL;
    if (read_target(object, &given, &target) == 0) {
        given.thread = PyEval_SaveThread();
        st = mdn_py_features_init(&given, &features, &err);
        if (st == MDN_OK) {
            st = mdn_match(&features, target.obj ? target.buf : NULL, ridge,
                           count, &found, &err);
            mdn_features_free(&features);
        }
        PyEval_RestoreThread(given.thread);
        answer = matching_answer(module, st, &err, &found);
        if (target.obj != NULL)
            PyBuffer_Release(&target);
    }
    mdn_py_features_release(&given);
    return answer;
}

static PyMethodDef functions[] = {
    {"graph_cut", graph_cut, METH_VARARGS, cut_doc},
    {"volume", volume, METH_VARARGS, volume_doc},
    {"herding", herding, METH_VARARGS, herding_doc},
    {"match", match, METH_VARARGS, match_doc},
    {NULL, NULL, 0, NULL},
};

int
mdn_py_add_coresets_more(PyObject *module)
{
    return PyModule_AddFunctions(module, functions);
}
