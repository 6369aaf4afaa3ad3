/* errors.c - the one place where a status becomes an exception. */
#include "python/python.h"

static PyObject *
exception_of(const mdn_py_state *state, mdn_status status)
{
    switch (status) { /* no default: -Wswitch rejects a missing case */
    case MDN_NOMEM: return PyExc_MemoryError;
    case MDN_INVALID: return PyExc_ValueError;
    case MDN_IO: return PyExc_OSError;
    case MDN_CORRUPT: return state->corrupt_error;
    case MDN_UNSUPPORTED: return state->corrupt_error;
    case MDN_NO_KEY: return PyExc_KeyError;
    case MDN_BUSY: return state->busy_error;
    case MDN_CLOSED: return state->closed_error;
    case MDN_CANCELLED: return state->closed_error;
    case MDN_TIMEOUT: return PyExc_TimeoutError;
    case MDN_CALLBACK: return PyExc_SystemError; /* had to be set already */
    case MDN_DATABASE: return state->database_error;
    case MDN_FENCED: return state->fenced_error;
    case MDN_OK: return PyExc_SystemError;
    }
    Py_UNREACHABLE();
}

PyObject *
mdn_py_raise(mdn_py_state *state, const mdn_error *err)
{
    PyObject *message, *args;

    if (err->status == MDN_CALLBACK && PyErr_Occurred())
        return NULL;
    /* A message holds file names, which need not be UTF-8. */
    message = PyUnicode_DecodeFSDefault(err->message);
    if (message == NULL)
        return NULL;
    if (err->status == MDN_IO)
        args = Py_BuildValue("(iN)", err->sys_errno, message);
    else
        args = Py_BuildValue("(N)", message);
    if (args == NULL)
        return NULL;
    PyErr_SetObject(exception_of(state, err->status), args);
    Py_DECREF(args);
    return NULL;
}
