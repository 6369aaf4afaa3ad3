/* maintain.c - verify and repair: functions of a path, since what is damaged
 * may not open. */
#include "python/python.h"

#include "storage/check.h"
#include "storage/repair.h"

#include <stdlib.h>
#include <string.h>

/* What was visited, as plain memory: the work is done without the GIL. */
typedef struct {
    const char *name; /* static */
    const char *kind; /* static, or NULL */
    uint64_t numbers[4];
    char *file, *text; /* owned */
} item;

typedef struct {
    item *items; /* owned */
    uint64_t count, room;
} item_list;

static mdn_status
add_item(item_list *list, const item *source, mdn_error *err)
{
    item *added;

    if (list->count == list->room) {
        uint64_t room = list->room ? 2 * list->room : 16;
        item *grown = realloc(list->items, room * sizeof *grown);

        if (grown == NULL)
            return mdn_fail_nomem(err, room * sizeof *grown);
        list->items = grown;
        list->room = room;
    }
    added = &list->items[list->count];
    *added = *source;
    added->file = strdup(source->file);
    added->text = strdup(source->text);
    list->count++;
    return added->file && added->text ? MDN_OK : mdn_fail_nomem(err, 64);
}

static void
free_items(item_list *list)
{
    for (uint64_t i = 0; i < list->count; i++) {
        free(list->items[i].file);
        free(list->items[i].text);
    }
    free(list->items);
}

static PyObject *
decode(const char *text)
{
    return PyUnicode_DecodeFSDefault(text);
}

/* [(what, file, kind, number, number_count, first_key, key_count, text)] */
static PyObject *
list_items(const item_list *list)
{
    PyObject *result = PyList_New((Py_ssize_t)list->count);

    for (uint64_t i = 0; result != NULL && i < list->count; i++) {
        const item *it = &list->items[i];
        PyObject *entry =
            Py_BuildValue("(sO&zKKKKO&)", it->name, decode, it->file, it->kind,
                          (unsigned long long)it->numbers[0],
                          (unsigned long long)it->numbers[1],
                          (unsigned long long)it->numbers[2],
                          (unsigned long long)it->numbers[3], decode, it->text);

        if (entry == NULL)
            Py_CLEAR(result);
        else
            PyList_SET_ITEM(result, (Py_ssize_t)i, entry);
    }
    return result;
}

/* Verify. */

static mdn_status
add_finding(void *ctx, const mdn_finding *finding, mdn_error *err)
{
    bool block = finding->what == MDN_FOUND_BLOCK;
    item source = {.name = mdn_found_name(finding->what),
                   .kind = block ? mdn_kind_name(finding->kind) : NULL,
                   .numbers = {finding->number, finding->number_count,
                               finding->first_key, finding->key_count},
                   .file = (char *)(uintptr_t)finding->file,
                   .text = (char *)(uintptr_t)finding->text};

    return add_item(ctx, &source, err);
}

static PyObject *
verify_result(const mdn_check_report *report, const item_list *list)
{
    return Py_BuildValue("(KKKKKKKKN)", (unsigned long long)report->commits,
                         (unsigned long long)report->samples,
                         (unsigned long long)report->erased,
                         (unsigned long long)report->entries,
                         (unsigned long long)report->segments,
                         (unsigned long long)report->checked.blocks,
                         (unsigned long long)report->checked.bytes,
                         (unsigned long long)report->more, list_items(list));
}

static const char verify_doc[] =
    "verify(path, threads, /)\n--\n\n"
    "Hold all of a dataset against its checksums: (commits, samples, erased,\n"
    "entries, segments, blocks, bytes, more, findings).";

static PyObject *
verify(PyObject *module, PyObject *args)
{
    mdn_py_state *state = mdn_py_state_of_module(module);
    item_list list = {.items = NULL};
    mdn_check_report report;
    PyThreadState *thread;
    mdn_pulse pulse = {.ask = mdn_py_check_signals, .ctx = &thread};
    PyObject *path, *result = NULL;
    unsigned threads;
    mdn_error err;
    mdn_status st;

    if (!PyArg_ParseTuple(args, "O&I", PyUnicode_FSConverter, &path, &threads))
        return NULL;
    thread = PyEval_SaveThread();
    st = mdn_check_dataset(&mdn_io_system, PyBytes_AS_STRING(path), threads,
                           add_finding, &list, &pulse, &report, &err);
    PyEval_RestoreThread(thread);
    Py_DECREF(path);
    if (st == MDN_OK)
        result = verify_result(&report, &list);
    else if (st != MDN_CALLBACK) /* else its exception is set */
        mdn_py_raise(state, &err);
    free_items(&list);
    return result;
}

/* Repair. */

static mdn_status
add_step(void *ctx, const mdn_step *step, mdn_error *err)
{
    item source = {.name = mdn_step_name(step->kind),
                   .numbers = {step->number, step->number_count,
                               step->first_key, step->key_count},
                   .file = (char *)(uintptr_t)step->file,
                   .text = (char *)(uintptr_t)step->text};

    return add_item(ctx, &source, err);
}

static const char repair_doc[] =
    "repair(path, dry_run, cut_sources, /)\n--\n\n"
    "Make a damaged dataset open again, and return the steps.";

static PyObject *
repair(PyObject *module, PyObject *args)
{
    mdn_py_state *state = mdn_py_state_of_module(module);
    item_list list = {.items = NULL};
    mdn_repair_options options;
    PyObject *path, *result = NULL;
    int dry_run, cut_sources;
    mdn_error err;
    mdn_status st;

    if (!PyArg_ParseTuple(args, "O&pp", PyUnicode_FSConverter, &path, &dry_run,
                          &cut_sources))
        return NULL;
    options = (mdn_repair_options){dry_run != 0, cut_sources != 0};
    Py_BEGIN_ALLOW_THREADS
    st = mdn_repair_dataset(&mdn_io_system, PyBytes_AS_STRING(path), &options,
                            add_step, &list, &err);
    Py_END_ALLOW_THREADS
    Py_DECREF(path);
    if (st == MDN_OK)
        result = list_items(&list);
    else
        mdn_py_raise(state, &err);
    free_items(&list);
    return result;
}

static PyMethodDef functions[] = {
    {"verify", verify, METH_VARARGS, verify_doc},
    {"repair", repair, METH_VARARGS, repair_doc},
    {NULL, NULL, 0, NULL},
};

int
mdn_py_add_maintain(PyObject *module, mdn_py_state *state)
{
    (void)state;
    return PyModule_AddFunctions(module, functions);
}
