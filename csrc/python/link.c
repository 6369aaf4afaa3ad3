/* link.c - modyn._core.Dataset.link. */
#include "python/dataset.h"

#include "storage/link.h"

#include <string.h>

/* None, one for all, or an array. */
static int
read_timestamps(PyObject *object, mdn_py_buffers *buffers,
                mdn_link_options *options)
{
    Py_buffer *numbers;

    if (object == Py_None && options->timestamp.size == 0) {
        PyErr_SetString(PyExc_ValueError, "no timestamps");
        return -1;
    }
    if (object == Py_None)
        return 0;
    if (PyLong_Check(object)) {
        options->timestamp_of_all = PyLong_AsLongLong(object);
        return options->timestamp_of_all == -1 && PyErr_Occurred() ? -1 : 0;
    }
    numbers = mdn_py_buffers_int64(buffers, object, "timestamps", 1, -1, 0);
    if (numbers == NULL)
        return -1;
    options->timestamps = numbers->buf;
    options->timestamp_count = (uint64_t)numbers->len / 8;
    return 0;
}

static PyObject *
link_file(mdn_py_dataset *self, const mdn_link_options *options,
          const Py_buffer *source)
{
    mdn_py_state *state = mdn_py_state_of_type(Py_TYPE(self));
    mdn_link_report report;
    PyThreadState *thread;
    mdn_pulse pulse = {.ask = mdn_py_check_signals, .ctx = &thread};
    mdn_error err;
    mdn_status st;

    if (mdn_py_dataset_acquire(self) < 0)
        return NULL;
    thread = PyEval_SaveThread();
    st = mdn_dataset_link(self->core, options, source ? source->buf : NULL,
                          source ? (uint64_t)source->len : 0, &pulse, &report,
                          &err);
    PyEval_RestoreThread(thread);
    mdn_py_dataset_release(self);
    if (st == MDN_CALLBACK)
        return NULL; /* its exception is set */
    if (st != MDN_OK)
        return mdn_py_raise(state, &err);
    return Py_BuildValue("(KKK)", (unsigned long long)report.first_key,
                         (unsigned long long)report.samples,
                         (unsigned long long)report.linked);
}

const char mdn_py_link_doc[] =
    "link($self, path, size, first_record, record_size, fields_at, label, timestamp, "
    "timestamps, threads, source=None, /)\n--\n\n"
    "Add the records of a file of this size and leave them there, as far as they fill\n"
    "segments.  label and timestamp: (offset, size, signed, big_endian) or\n"
    "None; timestamps, if not in the file: one for all, or an array.  Returns\n"
    "(first key, samples, how many of them are linked).";

PyObject *
mdn_py_dataset_link(mdn_py_dataset *self, PyObject *args)
{
    unsigned long long size, first_record, record_size, fields_at;
    PyObject *path, *label, *timestamp, *timestamps, *source = Py_None;
    PyObject *result = NULL;
    mdn_py_buffers buffers;
    Py_buffer *payload = NULL;
    mdn_link_options options = {.record_size = 0};
    unsigned threads;

    if (!PyArg_ParseTuple(args, "O&KKKKOOOI|O", PyUnicode_FSConverter, &path,
                          &size, &first_record, &record_size, &fields_at,
                          &label, &timestamp, &timestamps, &threads, &source))
        return NULL;
    options.path = PyBytes_AS_STRING(path);
    options.size = size;
    options.first_record = first_record;
    options.record_size = record_size;
    options.fields_at = fields_at;
    options.threads = threads > 0 ? threads : 1;
    if (record_size == 0)
        PyErr_SetString(PyExc_ValueError, "record_size must be at least 1");
    else if (mdn_py_buffers_init(&buffers, 2) == 0) {
        if (mdn_py_number_at(label, &options.label) == 0
            && mdn_py_number_at(timestamp, &options.timestamp) == 0
            && read_timestamps(timestamps, &buffers, &options) == 0
            && (source == Py_None
                || (payload = mdn_py_buffers_any(&buffers, source, 0)) != NULL))
            result = link_file(self, &options, payload);
        mdn_py_buffers_release(&buffers);
    }
    Py_DECREF(path);
    return result;
}
