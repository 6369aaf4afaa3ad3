/* memory.c - memory of Python objects in which batches lie.
 *
 * Pinned memory comes from torch's allocator, as objects with a buffer, and is
 * lent to the pool of a loader.  A batch may be released on any thread, without
 * the GIL and after the interpreter is gone; the pool then only marks its block
 * as idle.  The buffers are released here and nowhere else: by reclaim(), and
 * when a Memory goes, each if no batch lies in it.  One in which a batch still
 * lies when its Memory goes is never released: it leaks, and stays valid.  Who
 * minds calls reclaim() until it answers 0 (see modyn/loader/pinned.py). */
#include "python/batch.h"

typedef struct {
    PyObject_HEAD
    mdn_pool *pool; /* one reference */
    Py_ssize_t count, room;
    Py_buffer **held; /* each in an allocation of its own: it may not move */
} memory_object;

PyObject *
mdn_py_memory(mdn_py_state *state, mdn_pool *pool)
{
    PyTypeObject *type = state->memory_type;
    memory_object *self = (memory_object *)type->tp_alloc(type, 0);

    if (self != NULL)
        self->pool = mdn_pool_retain(pool);
    return (PyObject *)self;
}

static int
make_room(memory_object *self)
{
    Py_ssize_t room = 2 * self->room + 8;
    Py_buffer **held = self->held;

    if (self->count < self->room)
        return 0;
    PyMem_Resize(held, Py_buffer *, (size_t)room);
    if (held == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    self->held = held;
    self->room = room;
    return 0;
}

static void
let_go(Py_buffer *buffer)
{
    PyBuffer_Release(buffer);
    PyMem_Free(buffer);
}

PyDoc_STRVAR(lend_doc, "lend($self, buffer, /)\n--\n\n"
                       "Let batches lie in this writable memory from now on.");

static PyObject *
memory_lend(memory_object *self, PyObject *object)
{
    mdn_py_state *state = mdn_py_state_of_type(Py_TYPE(self));
    Py_buffer *buffer;
    mdn_status st;
    mdn_error err;

    if (make_room(self) < 0)
        return NULL;
    buffer = PyMem_Calloc(1, sizeof *buffer);
    if (buffer == NULL)
        return PyErr_NoMemory();
    if (PyObject_GetBuffer(object, buffer, PyBUF_C_CONTIGUOUS | PyBUF_WRITABLE)
        < 0) {
        PyMem_Free(buffer);
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS
    st = mdn_pool_lend(self->pool, buffer->buf, (uint64_t)buffer->len, &err);
    Py_END_ALLOW_THREADS
    if (st != MDN_OK) {
        let_go(buffer);
        return mdn_py_raise(state, &err);
    }
    self->held[self->count++] = buffer;
    Py_RETURN_NONE;
}

/* What a release sets off may call lend or reclaim again: the list is right at
 * any time. */
static void
reclaim_idle(memory_object *self)
{
    for (Py_ssize_t i = self->count; i-- > 0;) {
        Py_buffer *buffer;

        if (i >= self->count
            || !mdn_pool_reclaim(self->pool, self->held[i]->buf))
            continue;
        buffer = self->held[i];
        self->held[i] = self->held[--self->count];
        let_go(buffer);
    }
}

PyDoc_STRVAR(reclaim_doc,
             "reclaim($self, /)\n--\n\n"
             "Release what no batch lies in; how many blocks are still out.");

static PyObject *
memory_reclaim(memory_object *self, PyObject *unused)
{
    (void)unused;
    reclaim_idle(self);
    return PyLong_FromSsize_t(self->count);
}

static Py_ssize_t
memory_length(memory_object *self)
{
    return self->count;
}

static void
memory_dealloc(memory_object *self)
{
    PyTypeObject *type = Py_TYPE(self);

    reclaim_idle(self); /* what is left in held stays for ever */
    mdn_pool_release(self->pool);
    PyMem_Free(self->held);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyMethodDef memory_methods[] = {
    {"lend", (PyCFunction)(void (*)(void))memory_lend, METH_O, lend_doc},
    {"reclaim", (PyCFunction)(void (*)(void))memory_reclaim, METH_NOARGS,
     reclaim_doc},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot memory_slots[] = {
    {Py_tp_doc, "Memory lent to a loader, in which its batches lie; see "
                "Loader.memory."},
    {Py_tp_dealloc, (void *)memory_dealloc},
    {Py_tp_methods, memory_methods},
    {Py_sq_length, (void *)memory_length},
    {0, NULL},
};

static PyType_Spec memory_spec = {
    .name = "modyn._core.Memory",
    .basicsize = sizeof(memory_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE
             | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = memory_slots,
};

int
mdn_py_add_memory(PyObject *module, mdn_py_state *state)
{
    state->memory_type = mdn_py_add_type(module, &memory_spec);
    return state->memory_type == NULL ? -1 : 0;
}
