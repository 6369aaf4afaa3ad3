/* buffers.c - the buffers that one call holds while the core works on them. */
#include "python/python.h"

int
mdn_py_buffers_init(mdn_py_buffers *buffers, Py_ssize_t room)
{
    buffers->held = PyMem_Calloc((size_t)room, sizeof *buffers->held);
    buffers->count = 0;
    buffers->room = room;
    if (buffers->held == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    return 0;
}

Py_buffer *
mdn_py_buffers_any(mdn_py_buffers *buffers, PyObject *object, int writable)
{
    Py_buffer *next = &buffers->held[buffers->count];
    int flags = PyBUF_C_CONTIGUOUS | (writable ? PyBUF_WRITABLE : 0);

    if (buffers->count == buffers->room) {
        PyErr_SetString(PyExc_SystemError, "too many buffers in one call");
        return NULL;
    }
    if (PyObject_GetBuffer(object, next, flags) < 0)
        return NULL;
    buffers->count++;
    return next;
}

Py_buffer *
mdn_py_buffers_int64(mdn_py_buffers *buffers, PyObject *object,
                     const char *name, int is_signed, Py_ssize_t count,
                     int writable)
{
    Py_buffer *next = &buffers->held[buffers->count];

    if (buffers->count == buffers->room) {
        PyErr_SetString(PyExc_SystemError, "too many buffers in one call");
        return NULL;
    }
    if (mdn_py_buffer(object, name, is_signed ? "lq" : "LQ", 8, writable, next)
        < 0)
        return NULL;
    buffers->count++;
    if (count < 0 || next->len / 8 == count)
        return next;
    PyErr_Format(PyExc_ValueError, "%s: expected %zd numbers, got %zd", name,
                 count, next->len / 8);
    return NULL;
}

void
mdn_py_buffers_release(mdn_py_buffers *buffers)
{
    while (buffers->count > 0)
        PyBuffer_Release(&buffers->held[--buffers->count]);
    PyMem_Free(buffers->held);
    buffers->held = NULL;
}
