/* postgres.c - modyn._postgres: what modyn asks of libpq, seen from Python.
 *
 * An extension of its own, built only where libpq is; its typed face is
 * modyn/postgres.py. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "metadata/postgres.h"

typedef struct {
    PyObject *database_error;
    PyObject *fenced_error;
} module_state;

static PyObject *
raise_error(PyObject *module, const mdn_error *err)
{
    module_state *state = PyModule_GetState(module);
    PyObject *exception = state->database_error;
    PyObject *message;

    if (err->status == MDN_INVALID)
        exception = PyExc_ValueError;
    else if (err->status == MDN_NOMEM)
        exception = PyExc_MemoryError;
    else if (err->status == MDN_FENCED)
        exception = state->fenced_error;
    else if (err->status == MDN_TIMEOUT)
        exception = PyExc_TimeoutError;
    /* What a server says is in an encoding of its own. */
    message = PyUnicode_DecodeFSDefault(err->message);
    if (message == NULL)
        return NULL;
    PyErr_SetObject(exception, message);
    Py_DECREF(message);
    return NULL;
}

/* The pulse of what waits: ctx is the PyThreadState that gave up the GIL. */
static mdn_status
check_signals(void *ctx, mdn_error *err)
{
    PyThreadState **thread = ctx;
    int raised;

    (void)err;
    PyEval_RestoreThread(*thread);
    raised = PyErr_CheckSignals();
    *thread = PyEval_SaveThread();
    return raised < 0 ? MDN_CALLBACK : MDN_OK;
}

static uint32_t
milliseconds(double seconds)
{
    return seconds >= 4e6 ? 4000000000u : (uint32_t)(seconds * 1e3);
}

PyDoc_STRVAR(libpq_version_doc,
             "libpq_version($module, /)\n--\n\n"
             "Return the version of libpq, 150004 for 15.4.");

static PyObject *
libpq_version(PyObject *module, PyObject *args)
{
    (void)module;
    (void)args;
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
    PyThreadState *thread;
    mdn_postgres_patience patience = {.pulse = {check_signals, &thread}};
    mdn_postgres *pg;
    mdn_error err;
    mdn_status st;
    int version = 0;

    if (!PyArg_ParseTuple(args, "sd:server_version", &options.conninfo,
                          &timeout_seconds))
        return NULL;
    options.connect_ms = milliseconds(timeout_seconds);

    thread = PyEval_SaveThread();
    st = mdn_postgres_new(&options, &pg, &err);
    if (st == MDN_OK) {
        st = mdn_postgres_connect(pg, &patience, &err);
        version = mdn_postgres_server_version(pg);
        mdn_postgres_free(pg);
    }
    PyEval_RestoreThread(thread);

    if (st == MDN_CALLBACK)
        return NULL;
    if (st != MDN_OK)
        return raise_error(module, &err);
    return PyLong_FromLong(version);
}

static PyMethodDef methods[] = {
    {"libpq_version", libpq_version, METH_NOARGS, libpq_version_doc},
    {"server_version", server_version, METH_VARARGS, server_version_doc},
    {NULL, NULL, 0, NULL},
};

/* The exceptions are those of modyn._core, so that an error is of one class
 * whichever extension meets it. */
static int
module_exec(PyObject *module)
{
    module_state *state = PyModule_GetState(module);
    PyObject *core = PyImport_ImportModule("modyn._core");

    if (core == NULL)
        return -1;
    state->database_error = PyObject_GetAttrString(core, "DatabaseError");
    state->fenced_error = PyObject_GetAttrString(core, "FencedError");
    Py_DECREF(core);
    return state->database_error && state->fenced_error ? 0 : -1;
}

static int
module_traverse(PyObject *module, visitproc visit, void *arg)
{
    module_state *state = PyModule_GetState(module);

    Py_VISIT(state->database_error);
    Py_VISIT(state->fenced_error);
    return 0;
}

static int
module_clear(PyObject *module)
{
    module_state *state = PyModule_GetState(module);

    Py_CLEAR(state->database_error);
    Py_CLEAR(state->fenced_error);
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
    .m_size = sizeof(module_state),
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
