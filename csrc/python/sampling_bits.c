/* sampling_bits.c - bitmaps over keys, in arrays of the caller. */
#include "python/candidates.h"

#include "selector/bits.h"

PyDoc_STRVAR(bits_set_doc,
             "bits_set($module, words, keys, put, /)\n--\n\n"
             "Put keys into a bitmap, or take them out; how many changed.\n\n"
             "words: uint64, writable, bit k % 64 of word k // 64; keys: "
             "uint64.");

static PyObject *
bits_set(PyObject *module, PyObject *args)
{
    PyObject *words_object, *keys_object;
    Py_buffer *words, *keys;
    mdn_py_buffers buffers;
    uint64_t changed = 0;
    int put;
    mdn_status st = MDN_CALLBACK;
    mdn_error err;

    if (!PyArg_ParseTuple(args, "OOp:bits_set", &words_object, &keys_object,
                          &put)
        || mdn_py_buffers_init(&buffers, 2) < 0)
        return NULL;
    words = mdn_py_buffers_int64(&buffers, words_object, "words", 0, -1, 1);
    if (words == NULL)
        goto done;
    keys = mdn_py_buffers_int64(&buffers, keys_object, "keys", 0, -1, 0);
    if (keys == NULL)
        goto done;
    Py_BEGIN_ALLOW_THREADS
    st = mdn_bits_set(words->buf, (uint64_t)words->len / 8, keys->buf,
                      (uint64_t)keys->len / 8, put != 0, &changed, &err);
    Py_END_ALLOW_THREADS
    if (st != MDN_OK)
        mdn_py_raise(mdn_py_state_of_module(module), &err);
done:
    mdn_py_buffers_release(&buffers);
    return st == MDN_OK ? PyLong_FromUnsignedLongLong(changed) : NULL;
}

PyDoc_STRVAR(bits_get_doc, "bits_get($module, words, keys, out, /)\n--\n\n"
                           "Say in out, uint8, which keys a bitmap holds.");

static PyObject *
bits_get(PyObject *module, PyObject *args)
{
    PyObject *words_object, *keys_object, *out_object, *done = NULL;
    Py_buffer *words, *keys, *out;
    mdn_py_buffers buffers;

    (void)module;
    if (!PyArg_ParseTuple(args, "OOO:bits_get", &words_object, &keys_object,
                          &out_object)
        || mdn_py_buffers_init(&buffers, 3) < 0)
        return NULL;
    words = mdn_py_buffers_int64(&buffers, words_object, "words", 0, -1, 0);
    if (words == NULL)
        goto done;
    keys = mdn_py_buffers_int64(&buffers, keys_object, "keys", 0, -1, 0);
    if (keys == NULL)
        goto done;
    out = mdn_py_buffers_any(&buffers, out_object, 1);
    if (out == NULL)
        goto done;
    if (out->len != keys->len / 8) {
        PyErr_Format(PyExc_ValueError, "out must have %zd bytes, got %zd",
                     keys->len / 8, out->len);
        goto done;
    }
    Py_BEGIN_ALLOW_THREADS
    mdn_bits_get(words->buf, (uint64_t)words->len / 8, keys->buf,
                 (uint64_t)keys->len / 8, out->buf);
    Py_END_ALLOW_THREADS
    done = Py_NewRef(Py_None);
done:
    mdn_py_buffers_release(&buffers);
    return done;
}

static PyMethodDef functions[] = {
    {"bits_set", bits_set, METH_VARARGS, bits_set_doc},
    {"bits_get", bits_get, METH_VARARGS, bits_get_doc},
    {NULL, NULL, 0, NULL},
};

int
mdn_py_add_bits(PyObject *module)
{
    return PyModule_AddFunctions(module, functions);
}
