/* number_at.c - where a number stands in a record, as Python says it. */
#include "python/python.h"

int
mdn_py_number_at(PyObject *object, mdn_number_at *out)
{
    unsigned long long offset;
    unsigned size;
    int is_signed, big_endian;

    *out = (mdn_number_at){.size = 0};
    if (object == Py_None)
        return 0;
    if (!PyTuple_Check(object)) {
        PyErr_SetString(PyExc_TypeError, "label and timestamp must be tuples");
        return -1;
    }
    if (!PyArg_ParseTuple(object, "KIpp", &offset, &size, &is_signed,
                          &big_endian))
        return -1;
    *out = (mdn_number_at){.offset = offset,
                           .size = size,
                           .is_signed = is_signed != 0,
                           .big_endian = big_endian != 0};
    return 0;
}
