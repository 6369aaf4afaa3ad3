/* coresets.h - what the files that bind the greedy methods share. */
#ifndef MDN_PYTHON_CORESETS_H
#define MDN_PYTHON_CORESETS_H

#include "python/python.h"

#include "selector/features.h"
#include "selector/greedy.h"

/* Features as Python gives them: float32 of shape (n, width), or None. */
typedef struct {
    Py_buffer rows, embeddings; /* obj is NULL without */
    uint32_t threads;
    PyThreadState *thread; /* of who calls, without the GIL */
    mdn_pulse pulse;       /* looks for signals */
    mdn_beat beat;
} mdn_py_features;

/* 0, or -1 and an exception.  Must not move afterwards. */
int mdn_py_features_read(PyObject *rows, PyObject *embeddings, uint32_t threads,
                         mdn_py_features *out);
void mdn_py_features_release(mdn_py_features *given);

uint64_t mdn_py_features_count(const mdn_py_features *given);
/* The same, or `count` if that is less. */
uint64_t mdn_py_features_least(const mdn_py_features *given, uint64_t count);

/* A column of the answer: numbers of 8 bytes, malloc'd. */
typedef struct {
    void *data;
    mdn_dtype dtype;
    uint64_t count;
} mdn_py_column;

/* A tuple of arrays, or what err says; takes the columns over. */
PyObject *mdn_py_columns(PyObject *module, mdn_status st, const mdn_error *err,
                         mdn_py_column *columns, Py_ssize_t count);

/* One of the methods: call is its arguments, out its answer. */
typedef mdn_status mdn_py_method(const mdn_features *features, const void *call,
                                 void *out, mdn_error *err);

/* Run it on what was given, without the GIL. */
mdn_status mdn_py_features_run(mdn_py_features *given, mdn_py_method *method,
                               const void *call, void *out, mdn_error *err);
/* The same with columns of zeros for its answer, of which a tuple is made, or
 * NULL and an exception; releases what was given. */
PyObject *mdn_py_features_answer(PyObject *module, mdn_py_features *given,
                                 mdn_py_method *method, const void *call,
                                 mdn_py_column *columns, Py_ssize_t count);

/* "O&" of PyArg_ParseTuple: (how, batch, epsilon, beta, seed). */
int mdn_py_read_greedy(PyObject *object, void *options);

/* coresets_more.c */
int mdn_py_add_coresets_more(PyObject *module);

#endif
