/* erase.c - methods of modyn._core.Dataset about what was done to samples, and
 * where they came from: erase, events, sources. */
#include "python/dataset.h"

#include "storage/compact.h"

#include <stdlib.h>
#include <string.h>

const char mdn_py_erase_doc[] =
    "erase($self, keys, who, why, /)\n--\n\n"
    "Erase the samples of these keys, strictly ascending uint64, and return\n"
    "how many were not erased before.";

PyObject *
mdn_py_dataset_erase(mdn_py_dataset *self, PyObject *args)
{
    mdn_py_state *state = mdn_py_state_of_type(Py_TYPE(self));
    mdn_py_buffers buffers;
    const char *who, *why;
    PyObject *object;
    Py_buffer *keys;
    uint64_t erased;
    mdn_error err;
    mdn_status st;

    if (!PyArg_ParseTuple(args, "Oss", &object, &who, &why)
        || mdn_py_buffers_init(&buffers, 1) < 0)
        return NULL;
    keys = mdn_py_buffers_int64(&buffers, object, "keys", 0, -1, 0);
    if (keys == NULL || mdn_py_dataset_acquire(self) < 0) {
        mdn_py_buffers_release(&buffers);
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS
    st = mdn_dataset_erase(self->core, keys->buf, (uint64_t)keys->len / 8, who,
                           why, &erased, &err);
    Py_END_ALLOW_THREADS
    mdn_py_dataset_release(self);
    mdn_py_buffers_release(&buffers);
    if (st != MDN_OK)
        return mdn_py_raise(state, &err);
    return PyLong_FromUnsignedLongLong(erased);
}

mdn_status
mdn_py_check_signals(void *ctx, mdn_error *err)
{
    PyThreadState **thread = ctx;
    int failed;

    PyEval_RestoreThread(*thread);
    failed = PyErr_CheckSignals() < 0;
    *thread = PyEval_SaveThread();
    /* The exception says it, but whoever raises looks into err first. */
    return failed ? mdn_fail(err, MDN_CALLBACK, "interrupted") : MDN_OK;
}

const char mdn_py_compact_doc[] =
    "compact($self, /)\n--\n\n"
    "Remove the bytes of erased samples from the files; (segments written\n"
    "anew, samples whose bytes are gone).";

PyObject *
mdn_py_dataset_compact(mdn_py_dataset *self, PyObject *unused)
{
    mdn_py_state *state = mdn_py_state_of_type(Py_TYPE(self));
    mdn_compaction report;
    PyThreadState *thread;
    mdn_pulse pulse = {.ask = mdn_py_check_signals, .ctx = &thread};
    mdn_error err;
    mdn_status st;

    (void)unused;
    if (mdn_py_dataset_acquire(self) < 0)
        return NULL;
    thread = PyEval_SaveThread();
    st = mdn_dataset_compact(self->core, &pulse, &report, &err);
    PyEval_RestoreThread(thread);
    mdn_py_dataset_release(self);
    if (st == MDN_CALLBACK)
        return NULL; /* its exception is set */
    if (st != MDN_OK)
        return mdn_py_raise(state, &err);
    return Py_BuildValue("(KK)", (unsigned long long)report.segments,
                         (unsigned long long)report.samples);
}

/* Journals.  Entries are read without the GIL, and kept until all are there. */

typedef struct {
    mdn_entry *entries; /* owned, with their payloads */
    uint64_t count, room;
} entry_list;

static mdn_status
keep_entry(void *ctx, const mdn_entry *entry, mdn_error *err)
{
    entry_list *list = ctx;
    uint8_t *payload;

    if (list->count == list->room) {
        uint64_t room = list->room ? 2 * list->room : 16;
        mdn_entry *grown = realloc(list->entries, room * sizeof *list->entries);

        if (grown == NULL)
            return mdn_fail_nomem(err, room * sizeof *list->entries);
        list->entries = grown;
        list->room = room;
    }
    if ((payload = malloc(entry->payload_size + 1)) == NULL)
        return mdn_fail_nomem(err, entry->payload_size);
    memcpy(payload, entry->payload, entry->payload_size);
    list->entries[list->count] = *entry;
    list->entries[list->count++].payload = payload;
    return MDN_OK;
}

static void
free_entries(entry_list *list)
{
    for (uint64_t i = 0; i < list->count; i++)
        free((void *)(uintptr_t)list->entries[i].payload);
    free(list->entries);
}

static PyObject *
entry_bytes(const mdn_entry *entry)
{
    return PyBytes_FromStringAndSize((const char *)entry->payload,
                                     (Py_ssize_t)entry->payload_size);
}

/* (number, kind, wall_ns, digest, payload) */
static PyObject *
entry_tuple(const mdn_entry *entry)
{
    return Py_BuildValue("(KIKy#N)", (unsigned long long)entry->number,
                         entry->kind, (unsigned long long)entry->wall_ns,
                         entry->digest, (Py_ssize_t)sizeof entry->digest,
                         entry_bytes(entry));
}

static PyObject *
read_journal(mdn_py_dataset *self, mdn_journal_kind which,
             PyObject *(*convert)(const mdn_entry *))
{
    mdn_py_state *state = mdn_py_state_of_type(Py_TYPE(self));
    entry_list list = {.count = 0};
    PyObject *result = NULL;
    mdn_error err;
    mdn_status st;

    if (mdn_py_dataset_acquire(self) < 0)
        return NULL;
    Py_BEGIN_ALLOW_THREADS
    st = mdn_dataset_journal(self->core, which, keep_entry, &list, &err);
    Py_END_ALLOW_THREADS
    mdn_py_dataset_release(self);
    if (st != MDN_OK)
        mdn_py_raise(state, &err);
    else
        result = PyList_New((Py_ssize_t)list.count);
    for (uint64_t i = 0; result != NULL && i < list.count; i++) {
        PyObject *item = convert(&list.entries[i]);

        if (item == NULL)
            Py_CLEAR(result);
        else
            PyList_SET_ITEM(result, (Py_ssize_t)i, item);
    }
    free_entries(&list);
    return result;
}

const char mdn_py_events_doc[] =
    "events($self, /)\n--\n\n"
    "The entries of the journal of events, verified: a list of\n"
    "(number, kind, wall_ns, digest, payload).";

PyObject *
mdn_py_dataset_events(mdn_py_dataset *self, PyObject *unused)
{
    (void)unused;
    return read_journal(self, MDN_EVENTS, entry_tuple);
}

const char mdn_py_sources_doc[] =
    "sources($self, /)\n--\n\n"
    "The payloads of the journal of sources, verified, oldest first.";

PyObject *
mdn_py_dataset_sources(mdn_py_dataset *self, PyObject *unused)
{
    (void)unused;
    return read_journal(self, MDN_SOURCES, entry_bytes);
}
