/* postgres_connection.c - modyn._postgres.Connection. */
#include "python/postgres.h"

#include <string.h>
#include <unistd.h>

int
mdn_pypg_refuse_child(const mdn_pypg_connection *self)
{
    if (self->pid == getpid())
        return 0;
    PyErr_Format(PyExc_RuntimeError,
                 "this connection to Postgres was made by process %ld; "
                 "after a fork the child needs one of its own",
                 (long)self->pid);
    return -1;
}

int
mdn_pypg_take(mdn_pypg_connection *self)
{
    if (mdn_pypg_refuse_child(self) < 0)
        return -1;
    if (self->pg == NULL || self->closing)
        PyErr_SetString(PyExc_ValueError, "the connection is closed");
    else if (self->taken)
        PyErr_SetString(PyExc_RuntimeError,
                        "the connection is in use, by another thread or by a "
                        "reader; each thread needs one of its own");
    else if (atomic_load(&self->cancelled))
        PyErr_SetString(mdn_pypg_state_of_type(Py_TYPE(self))->database_error,
                        "the connection was cancelled, and can only be closed");
    else {
        self->taken = true;
        return 0;
    }
    return -1;
}

static void
close_now(mdn_pypg_connection *self)
{
    mdn_postgres *pg = self->pg;

    self->pg = NULL;
    mdn_postgres_free(pg); /* says goodbye, and does not wait */
}

void
mdn_pypg_give(mdn_pypg_connection *self)
{
    self->taken = false;
    if (self->closing)
        close_now(self);
}

/* name, value, name, value, ..., NULL of a dict; the texts are borrowed. */
static const char **
settings_of(PyObject *dict)
{
    size_t room = 2 * (size_t)PyDict_Size(dict) + 1;
    const char **settings = PyMem_Calloc(room, sizeof *settings);
    PyObject *key, *value;
    Py_ssize_t at = 0;
    size_t count = 0;

    if (settings == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    while (PyDict_Next(dict, &at, &key, &value)) {
        settings[count] = PyUnicode_AsUTF8(key);
        settings[count + 1] =
            settings[count] != NULL ? PyUnicode_AsUTF8(value) : NULL;
        if (settings[count + 1] == NULL) {
            PyMem_Free(settings);
            return NULL;
        }
        count += 2;
    }
    return settings;
}

static mdn_status
connect_first(mdn_pypg_connection *self, const mdn_postgres_options *options,
              mdn_error *err)
{
    mdn_postgres_patience patience = {.deadline_ns = 0};
    mdn_pypg_call call;
    mdn_status st;

    patience.pulse = mdn_pypg_begin(&call, self);
    st = mdn_postgres_new(options, &self->pg, err);
    if (st == MDN_OK)
        st = mdn_postgres_connect(self->pg, &patience, err);
    mdn_pypg_end(&call);
    return st;
}

static PyObject *
connection_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    mdn_postgres_options options = {0};
    double connect_seconds, statement_seconds, lock_seconds;
    mdn_pypg_connection *self;
    const char **settings;
    PyObject *dict;
    mdn_error err;
    mdn_status st;

    if (kwargs != NULL && PyDict_Size(kwargs) > 0) {
        PyErr_SetString(PyExc_TypeError, "Connection takes no keywords");
        return NULL;
    }
    if (!PyArg_ParseTuple(args, "sdddO!:Connection", &options.conninfo,
                          &connect_seconds, &statement_seconds, &lock_seconds,
                          &PyDict_Type, &dict)
        || (settings = settings_of(dict)) == NULL)
        return NULL;
    options.connect_ms = mdn_pypg_milliseconds(connect_seconds);
    options.statement_ms = mdn_pypg_milliseconds(statement_seconds);
    options.lock_ms = mdn_pypg_milliseconds(lock_seconds);
    options.settings = settings;

    self = (mdn_pypg_connection *)type->tp_alloc(type, 0);
    if (self == NULL) {
        PyMem_Free(settings);
        return NULL;
    }
    self->pid = getpid();
    atomic_init(&self->cancelled, false);
    st = connect_first(self, &options, &err);
    PyMem_Free(settings);
    if (st != MDN_OK) {
        Py_DECREF(self);
        return mdn_pypg_raise(mdn_pypg_state_of_type(type), &err);
    }
    return (PyObject *)self;
}

static void
connection_dealloc(PyObject *object)
{
    mdn_pypg_connection *self = (mdn_pypg_connection *)object;
    PyTypeObject *type = Py_TYPE(object);

    close_now(self);
    type->tp_free(object);
    Py_DECREF(type);
}

PyDoc_STRVAR(batch_doc,
             "batch($self, id, before, copies, after, retry_seconds, /)\n--\n\n"
             "Commit statements and copies in one transaction, once.");

static PyObject *
connection_batch(PyObject *object, PyObject *args)
{
    mdn_pypg_connection *self = (mdn_pypg_connection *)object;
    mdn_pypg_call call;
    mdn_pypg_work work;
    mdn_error err;
    mdn_status st;
    bool fresh;

    if (mdn_pypg_work_read(&work, args) < 0 || mdn_pypg_take(self) < 0) {
        mdn_pypg_work_release(&work);
        return NULL;
    }

    work.work.pulse = mdn_pypg_begin(&call, self);
    st = mdn_postgres_batch(self->pg, &work.work, &fresh, &err);
    mdn_pypg_end(&call);

    mdn_pypg_give(self);
    mdn_pypg_work_release(&work);
    if (st != MDN_OK)
        return mdn_pypg_raise(mdn_pypg_state_of_type(Py_TYPE(self)), &err);
    return PyBool_FromLong(fresh);
}

PyDoc_STRVAR(cancel_doc, "cancel($self, /)\n--\n\n"
                         "End the call under way in another thread, and all "
                         "later ones.");

static PyObject *
connection_cancel(PyObject *object, PyObject *Py_UNUSED(args))
{
    atomic_store(&((mdn_pypg_connection *)object)->cancelled, true);
    Py_RETURN_NONE;
}

PyDoc_STRVAR(close_doc, "close($self, /)\n--\n\n"
                        "Close the connection; a call under way is cancelled.");

static PyObject *
connection_close(PyObject *object, PyObject *Py_UNUSED(args))
{
    mdn_pypg_connection *self = (mdn_pypg_connection *)object;

    atomic_store(&self->cancelled, true);
    self->closing = true;
    if (!self->taken)
        close_now(self);
    Py_RETURN_NONE;
}

static PyObject *
connection_server_version(PyObject *object, void *Py_UNUSED(closure))
{
    mdn_pypg_connection *self = (mdn_pypg_connection *)object;

    if (self->pg == NULL) {
        PyErr_SetString(PyExc_ValueError, "the connection is closed");
        return NULL;
    }
    return PyLong_FromLong(mdn_postgres_server_version(self->pg));
}

static PyObject *
connection_closed(PyObject *object, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(((mdn_pypg_connection *)object)->closing);
}

static PyMethodDef connection_methods[] = {
    {"batch", connection_batch, METH_VARARGS, batch_doc},
    {"cancel", connection_cancel, METH_NOARGS, cancel_doc},
    {"close", connection_close, METH_NOARGS, close_doc},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef connection_getset[] = {
    {"server_version", connection_server_version, NULL,
     "Of the server, 150004 for 15.4.", NULL},
    {"closed", connection_closed, NULL, "Whether close() was called.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

PyDoc_STRVAR(connection_doc,
             "Connection(conninfo, connect_seconds, statement_seconds, "
             "lock_seconds, settings, /)\n--\n\n"
             "A connection to a server, for one thread at a time.");

static PyType_Slot connection_slots[] = {
    {Py_tp_doc, (void *)connection_doc},
    {Py_tp_new, (void *)connection_new},
    {Py_tp_dealloc, (void *)connection_dealloc},
    {Py_tp_methods, connection_methods},
    {Py_tp_getset, connection_getset},
    {0, NULL},
};

static PyType_Spec connection_spec = {
    .name = "modyn._postgres.Connection",
    .basicsize = sizeof(mdn_pypg_connection),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = connection_slots,
};

int
mdn_pypg_add_connection(PyObject *module, mdn_pypg_state *state)
{
    state->connection_type = (PyTypeObject *)PyType_FromModuleAndSpec(
        module, &connection_spec, NULL);
    if (state->connection_type == NULL)
        return -1;
    return PyModule_AddType(module, state->connection_type);
}
