/* postgres.c - modyn._postgres: what modyn asks of libpq, seen from Python.
 *
 * An extension of its own, built only where libpq is; its typed face is
 * modyn/postgres.py.  The types are in postgres_*.c. */
#include "python/postgres.h"

#include <string.h>

static struct PyModuleDef definition;

mdn_pypg_state *
mdn_pypg_state_of_module(PyObject *module)
{
    return PyModule_GetState(module);
}

mdn_pypg_state *
mdn_pypg_state_of_type(PyTypeObject *type)
{
    return PyModule_GetState(PyType_GetModuleByDef(type, &definition));
}

PyObject *
mdn_pypg_raise(mdn_pypg_state *state, const mdn_error *err)
{
    PyObject *exception = state->database_error;
    PyObject *message;

    if (err->status == MDN_CALLBACK)
        return NULL;
    if (err->status == MDN_INVALID)
        exception = PyExc_ValueError;
    else if (err->status == MDN_NOMEM)
        exception = PyExc_MemoryError;
    else if (err->status == MDN_FENCED)
        exception = state->fenced_error;
    else if (err->status == MDN_CORRUPT)
        exception = state->corrupt_error;
    else if (err->status == MDN_TIMEOUT)
        exception = PyExc_TimeoutError;
    /* Before it agrees on UTF-8 a server speaks in an encoding of its own, and
     * any message may be cut within a character. */
    message = PyUnicode_DecodeUTF8(err->message,
                                   (Py_ssize_t)strlen(err->message), "replace");
    if (message == NULL)
        return NULL;
    PyErr_SetObject(exception, message);
    Py_DECREF(message);
    return NULL;
}

uint32_t
mdn_pypg_milliseconds(double seconds)
{
    return seconds >= 4e6 ? UINT32_C(4000000000) : (uint32_t)(seconds * 1e3);
}

/* Calls. ------------------------------------------------------------------ */

static mdn_status
look_around(void *ctx, mdn_error *err)
{
    mdn_pypg_call *call = ctx;
    int raised;

    if (call->connection != NULL && atomic_load(&call->connection->cancelled))
        return mdn_fail(err, MDN_DATABASE, "cancelled from another thread");
    PyEval_RestoreThread(call->thread);
    raised = PyErr_CheckSignals();
    call->thread = PyEval_SaveThread();
    return raised < 0 ? mdn_fail(err, MDN_CALLBACK, "a signal") : MDN_OK;
}

mdn_pulse
mdn_pypg_begin(mdn_pypg_call *call, mdn_pypg_connection *connection)
{
    call->connection = connection;
    call->thread = PyEval_SaveThread();
    return (mdn_pulse){.ask = look_around, .ctx = call};
}

void
mdn_pypg_end(mdn_pypg_call *call)
{
    PyEval_RestoreThread(call->thread);
}

/* Functions. -------------------------------------------------------------- */

PyDoc_STRVAR(libpq_version_doc,
             "libpq_version($module, /)\n--\n\n"
             "Return the version of libpq, 150004 for 15.4.");

static PyObject *
libpq_version(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(args))
{
    return PyLong_FromLong(mdn_postgres_libpq_version());
}

PyDoc_STRVAR(server_version_doc,
             "server_version($module, conninfo, timeout_seconds, /)\n--\n\n"
             "Connect, and return the version of the server.");

static PyObject *
server_version(PyObject *module, PyObject *args)
{
    double timeout_seconds;
    mdn_postgres_options options = {.bare = true};
    mdn_postgres_patience patience = {.deadline_ns = 0};
    mdn_postgres *pg;
    mdn_pypg_call call;
    mdn_error err;
    mdn_status st;
    int version = 0;

    if (!PyArg_ParseTuple(args, "sd:server_version", &options.conninfo,
                          &timeout_seconds))
        return NULL;
    options.connect_ms = mdn_pypg_milliseconds(timeout_seconds);

    patience.pulse = mdn_pypg_begin(&call, NULL);
    st = mdn_postgres_new(&options, &pg, &err);
    if (st == MDN_OK) {
        st = mdn_postgres_connect(pg, &patience, &err);
        version = mdn_postgres_server_version(pg);
        mdn_postgres_free(pg);
    }
    mdn_pypg_end(&call);

    if (st != MDN_OK)
        return mdn_pypg_raise(mdn_pypg_state_of_module(module), &err);
    return PyLong_FromLong(version);
}

PyDoc_STRVAR(parse_conninfo_doc,
             "parse_conninfo($module, conninfo, /)\n--\n\n"
             "Return the keywords of a connection string and their values.");

typedef struct {
    PyObject *found;
    mdn_error *err;
} parsing;

static mdn_status
keep_option(void *ctx, const char *keyword, const char *value)
{
    parsing *self = ctx;
    PyObject *text = PyUnicode_DecodeFSDefault(value);
    int failed =
        text == NULL || PyDict_SetItemString(self->found, keyword, text) < 0;

    Py_XDECREF(text);
    return failed ? mdn_fail(self->err, MDN_CALLBACK, "no memory") : MDN_OK;
}

static PyObject *
parse_conninfo(PyObject *module, PyObject *args)
{
    parsing self = {.found = PyDict_New()};
    const char *conninfo;
    mdn_error err;

    self.err = &err;
    if (self.found == NULL)
        return NULL;
    /* With the GIL: nothing is waited for. */
    if (!PyArg_ParseTuple(args, "s:parse_conninfo", &conninfo)) {
        Py_CLEAR(self.found);
    } else if (mdn_postgres_parse(conninfo, keep_option, &self, &err)
               != MDN_OK) {
        Py_CLEAR(self.found);
        return mdn_pypg_raise(mdn_pypg_state_of_module(module), &err);
    }
    return self.found;
}

PyDoc_STRVAR(encode_doc, "encode($module, columns, rows, /)\n--\n\n"
                         "Return columns as the bytes of a binary COPY.");

static PyMethodDef methods[] = {
    {"libpq_version", libpq_version, METH_NOARGS, libpq_version_doc},
    {"server_version", server_version, METH_VARARGS, server_version_doc},
    {"parse_conninfo", parse_conninfo, METH_VARARGS, parse_conninfo_doc},
    {"encode", mdn_pypg_encode, METH_VARARGS, encode_doc},
    {"decode", mdn_pypg_decode, METH_VARARGS, mdn_pypg_decode_doc},
    {NULL, NULL, 0, NULL},
};

int
mdn_pypg_add_type(PyObject *module, PyType_Spec *spec)
{
    PyObject *type = PyType_FromModuleAndSpec(module, spec, NULL);
    int failed;

    if (type == NULL)
        return -1;
    failed = PyModule_AddType(module, (PyTypeObject *)type);
    Py_DECREF(type);
    return failed;
}

/* The exceptions are those of modyn._core, so that an error is of one class
 * whichever extension meets it. */
static int
module_exec(PyObject *module)
{
    mdn_pypg_state *state = mdn_pypg_state_of_module(module);
    PyObject *core = PyImport_ImportModule("modyn._core");

    if (core == NULL)
        return -1;
    state->database_error = PyObject_GetAttrString(core, "DatabaseError");
    state->fenced_error = PyObject_GetAttrString(core, "FencedError");
    state->corrupt_error = PyObject_GetAttrString(core, "CorruptError");
    Py_DECREF(core);
    if (state->database_error == NULL || state->fenced_error == NULL
        || state->corrupt_error == NULL)
        return -1;
    if (mdn_pypg_add_connection(module, state) < 0)
        return -1;
    return mdn_pypg_add_source(module) < 0 ? -1 : mdn_pypg_add_reader(module);
}

static int
module_traverse(PyObject *module, visitproc visit, void *arg)
{
    mdn_pypg_state *state = mdn_pypg_state_of_module(module);

    Py_VISIT(state->database_error);
    Py_VISIT(state->fenced_error);
    Py_VISIT(state->corrupt_error);
    Py_VISIT(state->connection_type);
    return 0;
}

static int
module_clear(PyObject *module)
{
    mdn_pypg_state *state = mdn_pypg_state_of_module(module);

    Py_CLEAR(state->database_error);
    Py_CLEAR(state->fenced_error);
    Py_CLEAR(state->corrupt_error);
    Py_CLEAR(state->connection_type);
    return 0;
}

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, (void *)module_exec},
#if PY_VERSION_HEX >= 0x030C0000
    {Py_mod_multiple_interpreters, Py_MOD_MULTIPLE_INTERPRETERS_NOT_SUPPORTED},
#endif
    {0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "modyn._postgres",
    .m_doc = "libpq as far as modyn needs it; see modyn/postgres.py.",
    .m_size = sizeof(mdn_pypg_state),
    .m_methods = methods,
    .m_slots = slots,
    .m_traverse = module_traverse,
    .m_clear = module_clear,
};

PyMODINIT_FUNC
PyInit__postgres(void)
{
    return PyModuleDef_Init(&definition);
}
