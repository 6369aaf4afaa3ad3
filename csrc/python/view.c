/* view.c - modyn._core.View: the samples of a dataset as of one commit. */
#include "python/view.h"

#include "storage/order.h"

#include <stdlib.h>

/* Facts. */

static PyObject *
view_erased_count(mdn_py_view_object *self, void *Py_UNUSED(closure))
{
    return PyLong_FromUnsignedLongLong(mdn_view_erased_count(self->core));
}

static PyObject *
view_count(mdn_py_view_object *self, void *Py_UNUSED(closure))
{
    return PyLong_FromUnsignedLongLong(mdn_view_count(self->core));
}

static PyObject *
view_path(mdn_py_view_object *self, void *Py_UNUSED(closure))
{
    return PyUnicode_DecodeFSDefault(mdn_view_path(self->core));
}

static PyObject *
view_uuid(mdn_py_view_object *self, void *Py_UNUSED(closure))
{
    return PyBytes_FromStringAndSize((const char *)mdn_view_uuid(self->core),
                                     16);
}

static PyObject *
view_time_unit(mdn_py_view_object *self, void *Py_UNUSED(closure))
{
    static const char *const names[] = {"s", "ms", "us", "ns"};

    return PyUnicode_FromString(names[mdn_view_time_unit(self->core)]);
}

static PyObject *
view_schema(mdn_py_view_object *self, void *Py_UNUSED(closure))
{
    char *text = mdn_schema_text(mdn_view_schema(self->core));
    PyObject *result;

    if (text == NULL)
        return PyErr_NoMemory();
    result = PyUnicode_FromString(text);
    free(text);
    return result;
}

static PyObject *
view_has_labels(mdn_py_view_object *self, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(mdn_view_has_labels(self->core));
}

/* Methods. */

static void
free_copy(PyObject *capsule)
{
    free(PyCapsule_GetPointer(capsule, NULL));
}

/* A slice of a column, or a copy with zeros where samples are erased. */
static PyObject *
column_array(mdn_py_view_object *self, uint64_t first, uint64_t count,
             const int64_t *column, bool copy)
{
    PyObject *owner, *result;
    int64_t *values;

    if (!copy)
        return mdn_py_array((PyObject *)self, (void *)(uintptr_t)column,
                            MDN_INT64, 1, &count, 0);
    if ((values = malloc(8 * (count + 1))) == NULL)
        return PyErr_NoMemory();
    if ((owner = PyCapsule_New(values, NULL, free_copy)) == NULL) {
        free(values);
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS
    for (uint64_t i = 0; i < count; i++)
        values[i] = mdn_view_is_erased(self->core, first + i) ? 0 : column[i];
    Py_END_ALLOW_THREADS
    result = mdn_py_array(owner, values, MDN_INT64, 1, &count, 0);
    Py_DECREF(owner);
    return result;
}

static PyObject *
as_arrays(mdn_py_view_object *self, uint64_t first, uint64_t count,
          const int64_t *timestamps, const int64_t *labels)
{
    bool copy = mdn_view_erased_between(self->core, first, count) > 0;
    PyObject *times = column_array(self, first, count, timestamps, copy);
    PyObject *classes = Py_NewRef(Py_None);

    if (times != NULL && labels != NULL) {
        Py_DECREF(classes);
        classes = column_array(self, first, count, labels, copy);
    }
    if (times == NULL || classes == NULL) {
        Py_XDECREF(times);
        Py_XDECREF(classes);
        return NULL;
    }
    return Py_BuildValue("(NN)", times, classes);
}

PyDoc_STRVAR(
    columns_doc,
    "columns($self, first, count, /)\n--\n\n"
    "Timestamps and labels (or None) of keys first .. first+count-1:\n"
    "read-only int64 arrays over the mapped files.  Where samples are\n"
    "erased, copies with zeros in their places.");

static PyObject *
view_columns(mdn_py_view_object *self, PyTypeObject *type,
             PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    const int64_t *timestamps, *labels;
    unsigned long long first, count;
    mdn_error err;
    mdn_status st;

    if (nargs != 2 || kwnames != NULL) {
        PyErr_SetString(PyExc_TypeError, "columns(first, count)");
        return NULL;
    }
    first = PyLong_AsUnsignedLongLong(args[0]);
    if (first == (unsigned long long)-1 && PyErr_Occurred())
        return NULL;
    count = PyLong_AsUnsignedLongLong(args[1]);
    if (count == (unsigned long long)-1 && PyErr_Occurred())
        return NULL;

    Py_BEGIN_ALLOW_THREADS
    st = mdn_view_columns(self->core, first, count, &timestamps, &labels, &err);
    Py_END_ALLOW_THREADS

    if (st != MDN_OK)
        return mdn_py_raise(mdn_py_state_of_type(type), &err);
    return as_arrays(self, first, count, timestamps, labels);
}

PyDoc_STRVAR(erased_doc,
             "erased($self, first, count, /)\n--\n\n"
             "Which of the keys first .. first+count-1 are erased: bool.");

static PyObject *
view_erased(mdn_py_view_object *self, PyObject *args)
{
    unsigned long long first, count;
    uint8_t *which;
    PyObject *owner, *result;
    uint64_t shape;

    if (!PyArg_ParseTuple(args, "KK:erased", &first, &count))
        return NULL;
    if (first > mdn_view_count(self->core)
        || count > mdn_view_count(self->core) - first)
        return PyErr_Format(PyExc_ValueError,
                            "keys %llu to %llu (exclusive) are not all there",
                            first, first + count);
    if ((which = malloc(count + 1)) == NULL)
        return PyErr_NoMemory();
    if ((owner = PyCapsule_New(which, NULL, free_copy)) == NULL) {
        free(which);
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS
    mdn_view_erased_in(self->core, first, count, which);
    Py_END_ALLOW_THREADS
    shape = count;
    result = mdn_py_array(owner, which, MDN_BOOL, 1, &shape, 0);
    Py_DECREF(owner);
    return result;
}

PyDoc_STRVAR(offsets_doc,
             "offsets($self, keys, field, out, /)\n--\n\n"
             "Fill out, int64 of len(keys) + 1, with the offsets of the\n"
             "payloads of bytes field number `field` laid back to back.");

static PyObject *
view_offsets(mdn_py_view_object *self, PyTypeObject *type,
             PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    mdn_py_buffers buffers;
    Py_buffer *keys, *out;
    unsigned long field;
    mdn_error err;
    mdn_status st = MDN_CALLBACK;

    if (nargs != 3 || kwnames != NULL) {
        PyErr_SetString(PyExc_TypeError, "offsets(keys, field, out)");
        return NULL;
    }
    field = PyLong_AsUnsignedLong(args[1]);
    if ((field == (unsigned long)-1 && PyErr_Occurred())
        || mdn_py_buffers_init(&buffers, 2) < 0)
        return NULL;
    keys = mdn_py_buffers_int64(&buffers, args[0], "keys", 0, -1, 0);
    if (keys == NULL)
        goto done;
    out =
        mdn_py_buffers_int64(&buffers, args[2], "out", 1, keys->len / 8 + 1, 1);
    if (out == NULL)
        goto done;

    Py_BEGIN_ALLOW_THREADS
    st = mdn_view_offsets(self->core, keys->buf, (uint64_t)keys->len / 8,
                          field > UINT32_MAX ? UINT32_MAX : (uint32_t)field,
                          out->buf, &err);
    Py_END_ALLOW_THREADS

    if (st != MDN_OK)
        mdn_py_raise(mdn_py_state_of_type(type), &err);
done:
    mdn_py_buffers_release(&buffers);
    return st == MDN_OK ? Py_NewRef(Py_None) : NULL;
}

/* A time order goes with the array over it. */
static void
free_order(PyObject *capsule)
{
    mdn_order_free(PyCapsule_GetPointer(capsule, NULL));
}

static PyObject *
order_array(mdn_order *order)
{
    uint64_t shape = mdn_order_count(order);
    PyObject *capsule, *array;

    if (mdn_order_keys(order) == NULL) {
        mdn_order_free(order);
        Py_RETURN_NONE;
    }
    if ((capsule = PyCapsule_New(order, NULL, free_order)) == NULL) {
        mdn_order_free(order);
        return NULL;
    }
    array = mdn_py_array(capsule, (void *)mdn_order_keys(order), MDN_UINT64, 1,
                         &shape, 0);
    Py_DECREF(capsule);
    return array;
}

PyDoc_STRVAR(
    time_order_doc,
    "time_order($self, threads, /)\n--\n\n"
    "All keys by (timestamp, key), a read-only uint64 array; None when\n"
    "that is 0, 1, 2, ...  Erased samples are among them.");

static PyObject *
view_time_order(mdn_py_view_object *self, PyTypeObject *type,
                PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    unsigned long threads;
    mdn_order *order;
    mdn_error err;
    mdn_status st;

    if (nargs != 1 || kwnames != NULL) {
        PyErr_SetString(PyExc_TypeError, "time_order(threads)");
        return NULL;
    }
    threads = PyLong_AsUnsignedLong(args[0]);
    if (threads == (unsigned long)-1 && PyErr_Occurred())
        return NULL;
    if (threads == 0) {
        PyErr_SetString(PyExc_ValueError, "threads must be at least 1, got 0");
        return NULL;
    }

    Py_BEGIN_ALLOW_THREADS
    st = mdn_view_time_order(
        self->core, threads > UINT32_MAX ? UINT32_MAX : (uint32_t)threads,
        &order, &err);
    Py_END_ALLOW_THREADS

    if (st != MDN_OK)
        return mdn_py_raise(mdn_py_state_of_type(type), &err);
    return order_array(order);
}

PyDoc_STRVAR(time_position_doc,
             "time_position($self, order, moment, /)\n--\n\n"
             "How many of the keys of order, in time order, are of samples\n"
             "before a moment; erased ones where they were.");

static PyObject *
view_time_position(mdn_py_view_object *self, PyTypeObject *type,
                   PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    mdn_py_buffers buffers;
    Py_buffer *keys;
    long long moment;
    uint64_t position = 0;
    mdn_error err;
    mdn_status st = MDN_CALLBACK;

    if (nargs != 2 || kwnames != NULL) {
        PyErr_SetString(PyExc_TypeError, "time_position(order, moment)");
        return NULL;
    }
    moment = PyLong_AsLongLong(args[1]);
    if ((moment == -1 && PyErr_Occurred())
        || mdn_py_buffers_init(&buffers, 1) < 0)
        return NULL;
    keys = mdn_py_buffers_int64(&buffers, args[0], "order", 0, -1, 0);
    if (keys != NULL) {
        st = mdn_view_time_position(self->core, keys->buf,
                                    (uint64_t)keys->len / 8, moment, &position,
                                    &err);
        if (st != MDN_OK)
            mdn_py_raise(mdn_py_state_of_type(type), &err);
    }
    mdn_py_buffers_release(&buffers);
    return st == MDN_OK ? PyLong_FromUnsignedLongLong(position) : NULL;
}

PyDoc_STRVAR(warm_doc, "warm($self, /)\n--\n\n"
                       "Populate the mappings of all samples ahead of use.");

static PyObject *
view_warm(mdn_py_view_object *self, PyObject *Py_UNUSED(args))
{
    Py_BEGIN_ALLOW_THREADS
    mdn_view_warm(self->core);
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

PyDoc_STRVAR(links_doc,
             "links($self, /)\n--\n\n"
             "The files of the user in which samples lie: a list of\n"
             "(path, first key, samples, how many of them are erased).");

static PyObject *
view_links(mdn_py_view_object *self, PyObject *Py_UNUSED(args))
{
    uint64_t count = mdn_view_link_count(self->core);
    PyObject *list = PyList_New((Py_ssize_t)count);

    for (uint64_t i = 0; list != NULL && i < count; i++) {
        mdn_linked_file link = mdn_view_link(self->core, i);
        PyObject *item = Py_BuildValue(
            "(NKKK)", PyUnicode_DecodeFSDefault(link.path),
            (unsigned long long)link.first_key,
            (unsigned long long)link.samples, (unsigned long long)link.erased);

        if (item == NULL)
            Py_CLEAR(list);
        else
            PyList_SET_ITEM(list, (Py_ssize_t)i, item);
    }
    return list;
}

/* The type. */

static void
view_dealloc(mdn_py_view_object *self)
{
    PyTypeObject *type = Py_TYPE(self);

    mdn_view_release(self->core);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyGetSetDef view_getset[] = {
    {"count", (getter)view_count, NULL, "Number of samples.", NULL},
    {"erased_count", (getter)view_erased_count, NULL,
     "How many of them are erased.", NULL},
    {"path", (getter)view_path, NULL, "Directory of the dataset.", NULL},
    {"uuid", (getter)view_uuid, NULL, "16 bytes that name the dataset.", NULL},
    {"time_unit", (getter)view_time_unit, NULL, "s, ms, us or ns.", NULL},
    {"schema", (getter)view_schema, NULL,
     "The schema, one line 'name: type' per field.", NULL},
    {"has_labels", (getter)view_has_labels, NULL,
     "Whether samples have labels.", NULL},
    {0},
};

#define WITH_TYPE METH_METHOD | METH_FASTCALL | METH_KEYWORDS

static PyMethodDef view_methods[] = {
    {"columns", (PyCFunction)(void (*)(void))view_columns, WITH_TYPE,
     columns_doc},
    {"offsets", (PyCFunction)(void (*)(void))view_offsets, WITH_TYPE,
     offsets_doc},
    {"fetch", (PyCFunction)(void (*)(void))mdn_py_view_fetch, WITH_TYPE,
     mdn_py_view_fetch_doc},
    {"time_order", (PyCFunction)(void (*)(void))view_time_order, WITH_TYPE,
     time_order_doc},
    {"time_position", (PyCFunction)(void (*)(void))view_time_position,
     WITH_TYPE, time_position_doc},
    {"erased", (PyCFunction)view_erased, METH_VARARGS, erased_doc},
    {"bring", (PyCFunction)(void (*)(void))mdn_py_view_bring, WITH_TYPE,
     mdn_py_view_bring_doc},
    {"copy_size", (PyCFunction)(void (*)(void))mdn_py_view_copy_size, WITH_TYPE,
     mdn_py_view_copy_size_doc},
    {"hugepages", (PyCFunction)(void (*)(void))mdn_py_view_hugepages, WITH_TYPE,
     mdn_py_view_hugepages_doc},
    {"warm", (PyCFunction)view_warm, METH_NOARGS, warm_doc},
    {"links", (PyCFunction)view_links, METH_NOARGS, links_doc},
    {0},
};

PyDoc_STRVAR(view_doc, "The samples of a dataset as of one commit; immutable, "
                       "for any thread.");

static PyType_Slot view_slots[] = {
    {Py_tp_dealloc, (void *)view_dealloc},
    {Py_tp_getset, view_getset},
    {Py_tp_methods, view_methods},
    {Py_tp_doc, (void *)view_doc},
    {0, NULL},
};

static PyType_Spec view_spec = {
    .name = "modyn._core.View",
    .basicsize = sizeof(mdn_py_view_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION
             | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = view_slots,
};

mdn_view *
mdn_py_view(mdn_py_state *state, PyObject *object)
{
    if (Py_IS_TYPE(object, state->view_type))
        return ((mdn_py_view_object *)object)->core;
    PyErr_Format(PyExc_TypeError, "expected a modyn._core.View, got %.100s",
                 Py_TYPE(object)->tp_name);
    return NULL;
}

PyObject *
mdn_py_view_new(mdn_py_state *state, mdn_view *view)
{
    mdn_py_view_object *self =
        PyObject_New(mdn_py_view_object, state->view_type);

    if (self == NULL) {
        mdn_view_release(view);
        return NULL;
    }
    self->core = view;
    return (PyObject *)self;
}

int
mdn_py_add_view(PyObject *module, mdn_py_state *state)
{
    state->view_type =
        (PyTypeObject *)PyType_FromModuleAndSpec(module, &view_spec, NULL);
    if (state->view_type == NULL)
        return -1;
    return PyModule_AddType(module, state->view_type);
}
