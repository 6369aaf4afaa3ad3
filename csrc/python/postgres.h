/* postgres.h - what the files of modyn._postgres share.
 *
 * A connection serves one call at a time.  A call takes it, gives up the GIL,
 * works with it and gives it back:
 *
 *     mdn_pypg_call call;
 *
 *     if (mdn_pypg_take(connection) < 0)
 *         return NULL;
 *     patience = (mdn_postgres_patience){.pulse = mdn_pypg_begin(&call, ...)};
 *     st = ...                              without the GIL
 *     mdn_pypg_end(&call);
 *     mdn_pypg_give(connection);
 *     if (st != MDN_OK)
 *         return mdn_pypg_raise(state, &err);
 *
 * What lasts over several calls (a reader) takes it for that long. */
#ifndef MDN_PYTHON_POSTGRES_H
#define MDN_PYTHON_POSTGRES_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "base/error.h"
#include "base/pulse.h"
#include "metadata/batch.h"
#include "metadata/postgres.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <sys/types.h>

typedef struct {
    PyObject *database_error;
    PyObject *fenced_error;
    PyObject *corrupt_error;
    PyTypeObject *connection_type;
} mdn_pypg_state;

typedef struct {
    PyObject_HEAD
    mdn_postgres *pg; /* owned; NULL once closed */
    pid_t pid;        /* that made it */
    bool taken;       /* by a call; it then frees pg if closing */
    bool closing;
    atomic_bool cancelled; /* read by pulses without the GIL */
} mdn_pypg_connection;

/* The state of the module of this (heap) type, or of the module. */
mdn_pypg_state *mdn_pypg_state_of_type(PyTypeObject *type);
mdn_pypg_state *mdn_pypg_state_of_module(PyObject *module);

/* Raise what err says and return NULL.  MDN_CALLBACK keeps the exception that
 * is already set. */
PyObject *mdn_pypg_raise(mdn_pypg_state *state, const mdn_error *err);

/* 0 or more; what is too much is the most. */
uint32_t mdn_pypg_milliseconds(double seconds);

/* With the GIL.  -1 and an exception: it is closed or cancelled, another call
 * has it, or it is the parent process's. */
int mdn_pypg_take(mdn_pypg_connection *connection);
/* -1 and an exception: it is the parent process's. */
int mdn_pypg_refuse_child(const mdn_pypg_connection *connection);
void mdn_pypg_give(mdn_pypg_connection *connection);

typedef struct {
    mdn_pypg_connection *connection; /* borrowed; NULL without one */
    PyThreadState *thread;
} mdn_pypg_call;

/* Give up the GIL, until the end.  The pulse hears signals (MDN_CALLBACK) and
 * cancel() (MDN_DATABASE). */
mdn_pulse mdn_pypg_begin(mdn_pypg_call *call, mdn_pypg_connection *connection);
void mdn_pypg_end(mdn_pypg_call *call);

/* postgres_work.c: what batch() was given, as the core takes it.  Everything
 * in it is borrowed from args (tuples all the way down) or held until release.
 */
typedef struct {
    mdn_postgres_work work;
    void **blocks; /* owned, as are they */
    size_t block_count;
    struct mdn_pypg_held *held; /* owned: buffers */
} mdn_pypg_work;

/* (id, before, copies, after, retry_seconds); -1 and an exception.  Release in
 * any case. */
int mdn_pypg_work_read(mdn_pypg_work *self, PyObject *args);
void mdn_pypg_work_release(mdn_pypg_work *self);

/* encode($module, columns, rows, /): for tests. */
PyObject *mdn_pypg_encode(PyObject *module, PyObject *args);

/* Add a type to the module, which then has the only reference. */
int mdn_pypg_add_type(PyObject *module, PyType_Spec *spec);

int mdn_pypg_add_connection(PyObject *module, mdn_pypg_state *state);
int mdn_pypg_add_source(PyObject *module);
int mdn_pypg_add_reader(PyObject *module);

/* postgres_reader.c: decode($module, pieces, types, block_rows, /). */
extern const char mdn_pypg_decode_doc[];
PyObject *mdn_pypg_decode(PyObject *module, PyObject *args);

#endif
