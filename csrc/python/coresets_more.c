/* coresets_more.c - the other greedy methods; their face is modyn/coresets. */
#include "python/coresets.h"

#include "python/candidates.h"
#include "selector/cut.h"
#include "selector/herding.h"
#include "selector/match.h"
#include "selector/volume.h"

#include <stdlib.h>

/* Rows (uint64) and numbers (float64), as most of them answer. */
static PyObject *
rows_and_numbers(PyObject *module, mdn_py_features *given,
                 mdn_py_method *method, const void *call, uint64_t count)
{
    uint64_t k = mdn_py_features_least(given, count);
    mdn_py_column out[] = {{NULL, MDN_UINT64, k}, {NULL, MDN_FLOAT64, k}};

    return mdn_py_features_answer(module, given, method, call, out, 2);
}

typedef struct {
    double coverage;
    mdn_greedy_options options;
    unsigned long long count;
} cut_call;

static mdn_status
run_cut(const mdn_features *features, const void *with, void *answer,
        mdn_error *err)
{
    const cut_call *call = with;
    mdn_py_column *out = answer;

    return mdn_cut(features, call->coverage, &call->options, call->count,
                   out[0].data, out[1].data, err);
}

PyDoc_STRVAR(cut_doc,
             "graph_cut($module, features, embeddings, coverage, greedy, "
             "count, threads, /)\n--\n\n"
             "Return rows (uint64) and gains (float64).");

static PyObject *
graph_cut(PyObject *module, PyObject *args)
{
    PyObject *rows, *embeddings;
    unsigned int threads;
    mdn_py_features given;
    cut_call call;

    if (!PyArg_ParseTuple(args, "OOdO&KI:graph_cut", &rows, &embeddings,
                          &call.coverage, mdn_py_read_greedy, &call.options,
                          &call.count, &threads)
        || mdn_py_features_read(rows, embeddings, threads, &given) < 0)
        return NULL;
    return rows_and_numbers(module, &given, run_cut, &call, call.count);
}

typedef struct {
    int linear, way;
    double ridge;
    mdn_greedy_options options;
    unsigned long long count;
} volume_call;

static mdn_status
run_volume(const mdn_features *features, const void *with, void *answer,
           mdn_error *err)
{
    const volume_call *call = with;
    mdn_py_column *out = answer;

    return mdn_volume(features,
                      call->linear ? MDN_VOLUME_LINEAR : MDN_VOLUME_SIMILAR,
                      call->ridge, (mdn_volume_way)call->way, &call->options,
                      call->count, out[0].data, out[1].data, err);
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
    PyObject *rows, *embeddings;
    unsigned int threads;
    mdn_py_features given;
    volume_call call;

    if (!PyArg_ParseTuple(args, "OOpdiO&KI:volume", &rows, &embeddings,
                          &call.linear, &call.ridge, &call.way,
                          mdn_py_read_greedy, &call.options, &call.count,
                          &threads))
        return NULL;
    if (call.way < MDN_VOLUME_AUTO || call.way > MDN_VOLUME_KERNEL)
        return PyErr_Format(PyExc_ValueError, "way must be 0 to 2, got %d",
                            call.way);
    if (mdn_py_features_read(rows, embeddings, threads, &given) < 0)
        return NULL;
    return rows_and_numbers(module, &given, run_volume, &call, call.count);
}

static mdn_status
run_herding(const mdn_features *features, const void *with, void *answer,
            mdn_error *err)
{
    const unsigned long long *count = with;
    mdn_py_column *out = answer;

    return mdn_herding(features, *count, out[0].data, out[1].data, err);
}

PyDoc_STRVAR(herding_doc,
             "herding($module, features, embeddings, count, threads, /)\n--\n\n"
             "Return rows (uint64) and errors of the mean (float64).");

static PyObject *
herding(PyObject *module, PyObject *args)
{
    PyObject *rows, *embeddings;
    unsigned long long count;
    unsigned int threads;
    mdn_py_features given;

    if (!PyArg_ParseTuple(args, "OOKI:herding", &rows, &embeddings, &count,
                          &threads)
        || mdn_py_features_read(rows, embeddings, threads, &given) < 0)
        return NULL;
    return rows_and_numbers(module, &given, run_herding, &count, count);
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

typedef struct {
    Py_buffer target; /* obj is NULL without */
    double ridge;
    unsigned long long count;
} match_call;

static mdn_status
run_match(const mdn_features *features, const void *with, void *answer,
          mdn_error *err)
{
    const match_call *call = with;

    return mdn_match(features, call->target.obj ? call->target.buf : NULL,
                     call->ridge, call->count, answer, err);
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
    unsigned int threads;
    mdn_py_features given;
    mdn_matching found;
    match_call call;
    mdn_error err;
    mdn_status st;

    if (!PyArg_ParseTuple(args, "OOOdKI:match", &rows, &embeddings, &object,
                          &call.ridge, &call.count, &threads)
        || mdn_py_features_read(rows, embeddings, threads, &given) < 0)
        return NULL;
    if (read_target(object, &given, &call.target) == 0) {
        st = mdn_py_features_run(&given, run_match, &call, &found, &err);
        answer = matching_answer(module, st, &err, &found);
        if (call.target.obj != NULL)
            PyBuffer_Release(&call.target);
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
