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
} mdn_py_features;

/* 0, or -1 and an exception. */
int mdn_py_features_read(PyObject *rows, PyObject *embeddings, uint32_t threads,
                         mdn_py_features *out);
void mdn_py_features_release(mdn_py_features *given);

/* Without the GIL: mdn_features_init of what was given. */
mdn_status mdn_py_features_init(const mdn_py_features *given, mdn_features *out,
                                mdn_error *err);
uint64_t mdn_py_features_count(const mdn_py_features *given);

/* count numbers, or None for count 0 of them; -1 and MemoryError. */
void *mdn_py_numbers(uint64_t count);

/* A tuple of as many arrays of 8-byte items as there are: each is taken over
 * (also when it fails), NULL ends them. */
typedef struct {
    void *data;
    mdn_dtype dtype;
    uint64_t count;
} mdn_py_column;
PyObject *mdn_py_columns(mdn_py_column *columns, Py_ssize_t count);

/* coresets_match.c */
int mdn_py_add_coresets_match(PyObject *module);

#endif
