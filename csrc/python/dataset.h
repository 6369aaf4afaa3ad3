/* dataset.h - the object behind modyn._core.Dataset, for its methods that lie
 * in other files: erase.c, link.c. */
#ifndef MDN_PYTHON_DATASET_H
#define MDN_PYTHON_DATASET_H

#include "python/python.h"

#include "storage/dataset.h"

typedef struct {
    PyObject_HEAD
    PyThread_type_lock lock;
    pid_t pid; /* in which the lock means something */
    mdn_dataset *core;
} mdn_py_dataset;

/* 0, or -1 and an exception: a signal came while waiting. */
int mdn_py_dataset_acquire(mdn_py_dataset *self);
void mdn_py_dataset_release(mdn_py_dataset *self);

/* erase.c; with their docstrings. */
PyObject *mdn_py_dataset_erase(mdn_py_dataset *self, PyObject *args);
PyObject *mdn_py_dataset_compact(mdn_py_dataset *self, PyObject *unused);
PyObject *mdn_py_dataset_events(mdn_py_dataset *self, PyObject *unused);
PyObject *mdn_py_dataset_sources(mdn_py_dataset *self, PyObject *unused);
extern const char mdn_py_compact_doc[];
extern const char mdn_py_erase_doc[], mdn_py_events_doc[], mdn_py_sources_doc[];

/* link.c */
PyObject *mdn_py_dataset_link(mdn_py_dataset *self, PyObject *args);
extern const char mdn_py_link_doc[];

#endif
