/* arrays.c - arrays in and out; the only file that includes NumPy. */
#include "python/python.h"

#define NPY_NO_DEPRECATED_API NPY_2_0_API_VERSION
#include <numpy/arrayobject.h>
#include <string.h>

static int
numpy_type(mdn_dtype dtype)
{
    switch (dtype) { /* no default: -Wswitch rejects a missing case */
    case MDN_BOOL: return NPY_BOOL;
    case MDN_INT8: return NPY_INT8;
    case MDN_INT16: return NPY_INT16;
    case MDN_INT32: return NPY_INT32;
    case MDN_INT64: return NPY_INT64;
    case MDN_UINT8: return NPY_UINT8;
    case MDN_UINT16: return NPY_UINT16;
    case MDN_UINT32: return NPY_UINT32;
    case MDN_UINT64: return NPY_UINT64;
    case MDN_FLOAT16: return NPY_FLOAT16;
    case MDN_FLOAT32: return NPY_FLOAT32;
    case MDN_FLOAT64: return NPY_FLOAT64;
    case MDN_COMPLEX64: return NPY_COMPLEX64;
    case MDN_COMPLEX128: return NPY_COMPLEX128;
    case MDN_BYTES: return NPY_UINT8;
    }
    Py_UNREACHABLE();
}

int
mdn_py_arrays_init(void)
{
    import_array1(-1);
    return 0;
}

PyObject *
mdn_py_array(PyObject *owner, void *data, mdn_dtype dtype, int ndim,
             const uint64_t *shape, int writable)
{
    static char nothing[16]; /* NumPy allocates for NULL: point somewhere */
    npy_intp dims[MDN_NDIM_MAX + 1];
    PyObject *array;
    int flags = NPY_ARRAY_C_CONTIGUOUS | NPY_ARRAY_ALIGNED;

    for (int i = 0; i < ndim; i++)
        dims[i] = (npy_intp)shape[i];
    if (writable)
        flags |= NPY_ARRAY_WRITEABLE;
    array = PyArray_New(&PyArray_Type, ndim, dims, numpy_type(dtype), NULL,
                        data ? data : nothing, 0, flags, NULL);
    if (array == NULL)
        return NULL;
    Py_INCREF(owner); /* stolen by the next line, also when it fails */
    if (PyArray_SetBaseObject((PyArrayObject *)array, owner) < 0) {
        Py_DECREF(array);
        return NULL;
    }
    return array;
}

int
mdn_py_buffer(PyObject *object, const char *name, const char *formats,
              Py_ssize_t itemsize, int writable, Py_buffer *out)
{
    int flags = PyBUF_C_CONTIGUOUS | PyBUF_FORMAT;
    const char *format;

    if (writable)
        flags |= PyBUF_WRITABLE;
    if (PyObject_GetBuffer(object, out, flags) < 0)
        return -1;
    format = out->format ? out->format : "B";
    if (*format == '=' || *format == '<' || *format == '@')
        format++;
    if (out->itemsize == itemsize && format[0] != '\0'
        && strchr(formats, format[0]) != NULL && format[1] == '\0')
        return 0;
    PyErr_Format(PyExc_TypeError,
                 "%s: expected items of %zd bytes and format '%s', got %zd "
                 "bytes and format '%s'",
                 name, itemsize, formats, out->itemsize, out->format);
    PyBuffer_Release(out);
    return -1;
}
